"""What a folder of a model must be; refusals with their messages are in tests/bad_inputs/test_models.py."""

import io
import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateurs.checkpoints.dense import load_dense
from tests.project import change_json, path_model
from tests.tiny import make_tiny_model

TEXT = "The river bends, and Ann's boat follows: 12 miles to Łódź."


def trained_sentencepiece() -> bytes:
    """A small model of sentencepiece, with Llama's special pieces and bytes for what it lacks."""
    words = [
        f"{first} {second} {number}" for number in range(40) for first in TEXT.split() for second in "ab"
    ]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_writer=written,
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    return written.getvalue()


def test_a_tokenizer_model_alone_is_read_as_sentencepiece_reads_it(tmp_path: Path) -> None:
    written = trained_sentencepiece()
    make_tiny_model(vocab_size=400).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(written)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"})
    )
    _, tokenizer = load_dense(path_model(tmp_path))
    expected = sentencepiece.SentencePieceProcessor(model_proto=written).encode(TEXT)
    assert tokenizer(TEXT, add_special_tokens=False)["input_ids"] == expected
    # As data/model would hold it: in the one file that needs no sentencepiece.
    tokenizer.save_pretrained(tmp_path / "saved")
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert saved(TEXT, add_special_tokens=False)["input_ids"] == expected


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("kernel", ["flash_attention_2", "somebody/some-kernel"])
def test_a_config_that_wants_another_kernel_is_read_with_plain_attention(
    key: str, kernel: str, dense_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(dense_dir, tmp_path / "model")
    change_json(folder / "config.json", **{key: kernel})
    model, _ = load_dense(path_model(folder))
    assert model.config._attn_implementation in {"sdpa", "eager"}
    model.save_pretrained(tmp_path / "saved")
    assert kernel not in (tmp_path / "saved/config.json").read_text(encoding="utf-8")
    ids = torch.arange(12)[None]
    plain = AutoModelForCausalLM.from_pretrained(dense_dir)
    assert torch.equal(model(ids).logits, plain(ids).logits)
