"""Strings become sequences of tokens, as the corpus packs them."""

import pytest

from secateurs.errors import InputError
from secateurs.text.calibration import pack_text
from tests.tiny import make_tiny_tokenizer


def test_documents_are_laid_end_to_end_with_an_end_token_after_each() -> None:
    tokenizer = make_tiny_tokenizer()
    packed = pack_text(tokenizer, {"news": ["abcdef", "ghi"]}, length=5)
    ids = [*tokenizer("abcdef")["input_ids"], 1, *tokenizer("ghi")["input_ids"], 1]
    assert packed.ids["news"].tolist() == [ids[:5], ids[5:10]]


def test_a_domain_that_fills_no_sequence_is_refused() -> None:
    with pytest.raises(InputError, match="text: news: is shorter than one sequence of 50 tokens"):
        pack_text(make_tiny_tokenizer(), {"news": ["short"]}, length=50)


def test_a_string_is_not_taken_for_a_list_of_its_letters() -> None:
    with pytest.raises(InputError, match="text: news: is one string; give a list of documents"):
        pack_text(make_tiny_tokenizer(), {"news": "a long text"}, length=4)
