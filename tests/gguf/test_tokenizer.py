"""The tokenizer of a GGUF file, held against what llama.cpp makes of the file's keys."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from secateurs.checkpoints.dense import load_dense
from secateurs.checkpoints.saving import save_model, save_tokenizer
from secateurs.errors import InputError
from secateurs.families.boundaries import beginning
from tests.families.test_families import tiny
from tests.gguf.test_inventory import logits, told
from tests.project import path_model
from tests.test_export import checkpoint, load

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["th", "the", "\u2581the", "fo", "fox", "\u2581fox"]
TOKENS = ["<unk>", "<s>", "</s>", *BYTES, *"\u2581abcdefghijklmnopqrstuvwxyz", *WORDS]
IDS = {token: index for index, token in enumerate(TOKENS)}
MERGES = [("t", "h"), ("th", "e"), ("\u2581", "the"), ("f", "o"), ("fo", "x"), ("\u2581", "fox")]


def over_characters(directory: Path) -> Path:
    """A checkpoint whose tokenizer merges characters, with a space in front of text, as in SentencePiece."""
    backend = Tokenizer(models.BPE(vocab=IDS, merges=MERGES, unk_token="<unk>", byte_fallback=True))
    space = normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")
    backend.normalizer = normalizers.Sequence(list(space))
    backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback()])
    save_model(tiny("llama", vocab_size=320), directory)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(directory)
    return directory


# Keys; a text; its tokens in llama.cpp, which puts a space in front of each piece between special tokens.
CUT: list[tuple[dict[str, Any], str, list[str]]] = [
    ({}, "the fox", ["\u2581the", "\u2581fox"]),
    ({}, " the", ["\u2581", "\u2581the"]),
    ({}, "the<s>fox", ["\u2581the", "<s>", "\u2581fox"]),
    ({"add_space_prefix": False}, "the fox", ["the", "\u2581fox"]),
    ({"add_space_prefix": False}, " the", ["\u2581the"]),
    ({"add_space_prefix": False}, "the<s>fox", ["the", "<s>", "fox"]),
    ({"add_bos_token": True}, "the", ["<s>", "\u2581the"]),
    ({"add_bos_token": True, "add_space_prefix": False}, "the", ["<s>", "the"]),
    ({"add_eos_token": True}, "the", ["\u2581the", "</s>"]),
]


@pytest.mark.parametrize(("keys", "text", "tokens"), CUT)
def test_characters_are_cut_as_the_file_says(
    keys: dict[str, Any], text: str, tokens: list[str], tmp_path: Path
) -> None:
    path = told(over_characters(tmp_path), {f"tokenizer.ggml.{key}": value for key, value in keys.items()})
    _, tokenizer = load_dense(path_model(path))
    save_tokenizer(tokenizer, tmp_path / "kept")
    kept = PreTrainedTokenizerFast.from_pretrained(tmp_path / "kept")
    for one in (tokenizer, kept):
        assert one(text)["input_ids"] == [IDS[token] for token in tokens]
        assert one.decode(one(text, add_special_tokens=False)["input_ids"]).replace("<s> ", "<s>") == text


def test_a_text_over_characters_begins_with_the_first_token_by_default(tmp_path: Path) -> None:
    path = told(over_characters(tmp_path), without=("tokenizer.ggml.add_bos_token",))
    model, tokenizer = load_dense(path_model(path))
    assert beginning(tokenizer) == (IDS["<s>"],)
    assert model.config.eos_token_id == IDS["</s>"]


@pytest.mark.parametrize(("rule", "begins"), [("llama-bpe", True), ("tekken", True), ("gpt-2", False)])
def test_a_rule_says_whether_a_text_begins_with_the_first_token(
    rule: str, begins: bool, tmp_path: Path
) -> None:
    path = told(
        checkpoint(tmp_path, "llama"),
        {"tokenizer.ggml.pre": rule},
        without=("tokenizer.ggml.add_bos_token",),
    )
    _, tokenizer = load_dense(path_model(path))
    assert beginning(tokenizer) == ((0,) if begins else ())


def test_a_first_token_that_is_not_told_is_refused(tmp_path: Path) -> None:
    keys = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id")
    path = told(checkpoint(tmp_path, "llama"), {"tokenizer.ggml.pre": "llama-bpe"}, without=keys)
    with pytest.raises(InputError, match=r"bos_token_id: not there, and llama\.cpp begins a text by it"):
        load_dense(path_model(path))


def test_an_answer_ends_at_the_end_of_a_turn_too(tmp_path: Path) -> None:
    keys = {"tokenizer.ggml.eot_token_id": 7, "tokenizer.ggml.eom_token_id": 1}
    model, tokenizer = load_dense(path_model(told(checkpoint(tmp_path, "llama"), keys)))
    assert (tokenizer.eos_token_id, model.config.eos_token_id) == (1, [1, 7])


def test_no_end_is_made_up_for_a_file_that_tells_none(tmp_path: Path) -> None:
    path = told(checkpoint(tmp_path, "llama"), without=("tokenizer.ggml.eos_token_id",))
    model, tokenizer = load_dense(path_model(path))
    assert (tokenizer.eos_token_id, model.config.eos_token_id) == (None, None)


def test_other_files_beside_a_gguf_file_are_not_read(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path, "llama")
    expected, path = logits(load(directory)), told(directory)
    own = PreTrainedTokenizerFast.from_pretrained(directory)("the fox jumps")["input_ids"]
    file = directory / "tokenizer.json"
    other = json.loads(file.read_text(encoding="utf-8"))
    other["model"]["merges"] = []
    file.write_text(json.dumps(other), encoding="utf-8")
    (directory / "generation_config.json").write_text('{"eos_token_id": 7, "num_beams": 4}', encoding="utf-8")
    (directory / "config.json").write_text("{}", encoding="utf-8")
    model, tokenizer = load_dense(path_model(path))
    assert tokenizer("the fox jumps")["input_ids"] == own
    assert (model.generation_config.eos_token_id, model.generation_config.num_beams) == (1, None)
    assert torch.allclose(logits(model), expected, atol=1e-5)
