"""The cut of a text by the rule that a GGUF file names, against the published tokenizers' words for it."""

from pathlib import Path

import pytest
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from secateurs.checkpoints.dense import load_dense
from secateurs.checkpoints.gguf_pre_tokenizers import RULES, pre_tokenizer
from tests.gguf.test_inventory import told
from tests.project import path_model
from tests.test_export import TEXT, checkpoint

# As tokenizer.json of SmolLM2 has it.
SMOLLM = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
CUTS = {
    "gpt-2": ["a", "Ġ2024", "Ġb", "12345"],
    "smollm": ["a", "Ġ", "2", "0", "2", "4", "Ġb", "1", "2", "3", "4", "5"],
    "qwen2": ["a", "Ġ", "2", "0", "2", "4", "Ġb", "1", "2", "3", "4", "5"],
    "llama-bpe": ["a", "Ġ", "202", "4", "Ġb", "123", "45"],
}


@pytest.mark.parametrize("name", CUTS)
def test_digits_are_cut_as_the_name_says(name: str) -> None:
    assert [piece for piece, _ in pre_tokenizer(RULES[name]).pre_tokenize_str("a 2024 b12345")] == CUTS[name]


def test_a_file_that_says_smollm_is_cut_like_the_published_one_saved_and_loaded_again(tmp_path: Path) -> None:
    path = told(checkpoint(tmp_path, "llama"), {"tokenizer.ggml.pre": "smollm"})
    assert GGUFReader(path).fields["tokenizer.ggml.pre"].contents() == "smollm"
    _, tokenizer = load_dense(path_model(path))
    published = AutoTokenizer.from_pretrained(tmp_path)
    before = published(TEXT)["input_ids"]
    published.backend_tokenizer.pre_tokenizer = SMOLLM
    assert tokenizer(TEXT)["input_ids"] == published(TEXT)["input_ids"] != before
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
    assert again.eos_token == "</s>"
