from transformers import PreTrainedTokenizerFast

from secateurs.text.documents import Sequence
from secateurs.text.recutting import recut, same_cut
from secateurs.vocabulary.pieces import read_pieces
from secateurs.vocabulary.ranking import removal_order
from secateurs.vocabulary.trimming import new_ids, trim_tokenizer
from tests.vocabulary.small import TEXT, byte_level


def trimmed() -> tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast]:
    tokenizer = byte_level()
    pieces = read_pieces(tokenizer, len(tokenizer))
    gone = removal_order(pieces, {index: float(index) for index in pieces.tokens})[::2]
    return tokenizer, trim_tokenizer(
        tokenizer, new_ids(tokenizer, pieces.tokens.keys() - set(gone), len(tokenizer))
    )


def row(ids: list[int]) -> Sequence:
    return Sequence("d", ("one", "two"), tuple(ids))


def test_each_text_of_a_row_is_cut_as_the_other_tokenizer_cuts_it() -> None:
    tokenizer, other = trimmed()
    end, end_there = tokenizer.eos_token_id, other.eos_token_id
    one, two = TEXT[:2]
    found = recut([row([*tokenizer(one)["input_ids"], end, *tokenizer(two)["input_ids"]])], tokenizer, other)[
        0
    ]
    assert found.input_ids == (*other(one)["input_ids"], end_there, *other(two)["input_ids"])
    assert found.documents == ("one", "two")
    assert len(found.input_ids) > len(tokenizer(one)["input_ids"]) + 1 + len(tokenizer(two)["input_ids"])


def test_nothing_is_left_of_a_character_that_a_row_cuts_in_two() -> None:
    tokenizer, other = trimmed()
    # The model of the row was not taught this character, so it stands there in bytes.
    cat = tokenizer("猫 dog")["input_ids"]
    assert tokenizer.decode(cat[:1]) == "\ufffd"
    found = recut([row(cat[1:])], tokenizer, other)[0]
    assert other.decode(found.input_ids) == " dog"


def test_the_same_vocabulary_is_told_from_another() -> None:
    tokenizer, other = trimmed()
    assert same_cut(tokenizer, byte_level())
    assert not same_cut(tokenizer, other)
