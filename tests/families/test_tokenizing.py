"""A tokenizer whose pattern gives up at a text: one message, wherever the text comes from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Regex, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from secateurs.errors import InputError
from secateurs.families.tokenizing import encode
from tests.project import ROOT
from tests.tiny import make_tiny_model, make_tiny_tokenizer

LONG = "x" * 3000


def giving_up() -> PreTrainedTokenizerFast:
    """The tiny tokenizer with a pattern that tries every way to cut a row of x."""
    made = make_tiny_tokenizer()
    split = pre_tokenizers.Split(Regex(r"(?:x+x+)+y"), "isolated")
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, spell])
    return made


def test_texts_are_encoded_as_one_by_one_without_special_tokens() -> None:
    made = make_tiny_tokenizer()
    assert encode(made, ["one", "two"]) == [
        made.encode("one", add_special_tokens=False),
        made("two")["input_ids"],
    ]
    assert encode(made, []) == []


def test_a_text_at_which_the_pattern_gives_up_is_named() -> None:
    message = (
        r"^the model's tokenizer gives up on a text that begins 'x{40}': .*retry-limit.*; take the text out"
    )
    with pytest.raises(InputError, match=message):
        encode(giving_up(), ["one", LONG, "two"])


def test_the_chat_says_so_without_a_traceback(tmp_path: Path) -> None:
    make_tiny_model().save_pretrained(tmp_path)
    giving_up().save_pretrained(tmp_path)
    command = [sys.executable, "-m", "stages.chat", str(tmp_path), "--max-tokens", "2"]
    environment = {key: value for key, value in os.environ.items() if key != "RUST_BACKTRACE"}
    done = subprocess.run(
        command, input=LONG, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert "Error: the model's tokenizer gives up on a text" in done.stderr
    assert "Traceback" not in done.stderr
    assert "stack backtrace" not in done.stderr
