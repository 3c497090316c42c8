"""Strings as the method takes them: token ids by domain, in sequences of one length."""

import pytest

from stages.common.errors import InputError
from stages.text.calibration import pack_text
from tests.conftest import make_tiny_tokenizer


def test_texts_lie_end_to_end_with_an_end_token_between_and_the_rest_is_left_out() -> None:
    tokenizer = make_tiny_tokenizer()
    found = pack_text(tokenizer, {"a": ["abc", "defgh"]}, 4)["a"]
    ids = [*tokenizer("abc")["input_ids"], 1, *tokenizer("defgh")["input_ids"], 1]
    assert found.tolist() == [ids[:4], ids[4:8]]


def test_a_domain_shorter_than_one_sequence_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="text: a: is shorter than one sequence of 64 tokens"):
        pack_text(make_tiny_tokenizer(), {"a": ["abc"]}, 64)
