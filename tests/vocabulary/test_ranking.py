import pytest

from secateurs.errors import InputError
from secateurs.vocabulary.pieces import Pieces
from secateurs.vocabulary.ranking import Scripts, count_tokens, kept_tokens, removal_order, token_weights
from tests.vocabulary.small import byte_level


def pieces_of(tokens: list[str], made_of: dict[int, tuple[int, ...]], fixed: set[int]) -> Pieces:
    numbered = dict(enumerate(tokens))
    return Pieces(numbered, made_of, frozenset(made_of), frozenset(fixed), frozenset(), numbered)


ABC = pieces_of(["a", "b", "c", "ab", "abc", "bc", "да"], {3: (0, 1), 4: (3, 2), 5: (1, 2)}, {0, 1, 2})


def test_a_token_goes_before_what_it_is_merged_from() -> None:
    weights = {0: 9.0, 1: 9.0, 2: 9.0, 3: 0.0, 4: 2.0, 5: 1.0, 6: 5.0}
    assert removal_order(ABC, weights) == [5, 4, 3, 6]


def test_the_parts_of_a_token_that_went_count_for_it() -> None:
    # With the 2 of "abc", "ab" is worth more than "да".
    weights = {0: 9.0, 1: 9.0, 2: 9.0, 3: 1.0, 4: 2.0, 5: 4.0, 6: 2.5}
    assert removal_order(ABC, weights) == [4, 6, 3, 5]


def test_a_script_that_is_kept_stays_and_one_that_is_left_goes_first() -> None:
    weights = dict.fromkeys(ABC.tokens, 1.0)
    assert removal_order(ABC, weights, Scripts(leave=("Cyrillic",)))[0] == 6
    assert removal_order(ABC, weights, Scripts(keep=("Latin",))) == [6]
    with pytest.raises(
        InputError, match=r"prune.vocabulary.keep: Klingon: no script of that name; known are Latin, Han"
    ):
        removal_order(ABC, weights, Scripts(keep=("Klingon",)))


def test_domains_are_mixed_by_their_weights_and_not_by_their_length() -> None:
    counts = {"short": {4: 1}, "long": {6: 1000}}
    even = token_weights(ABC, counts, {"short": 1.0, "long": 1.0})
    assert sum(even.values()) == pytest.approx(1)
    assert even[6] == pytest.approx(0.5)  # the only Cyrillic token has all of its class
    uneven = token_weights(ABC, counts, {"short": 3.0, "long": 1.0})
    assert uneven[4] / even[4] == pytest.approx(1.5)


def test_what_was_not_counted_follows_the_order_of_the_tokenizer() -> None:
    weights = token_weights(ABC, {"one": {0: 1}}, {"one": 1.0})
    assert weights[3] > weights[4] > weights[5] > weights[6] == 0


def test_a_multiple_of_tokens_is_kept() -> None:
    order = removal_order(ABC, dict.fromkeys(ABC.tokens, 0.0))
    assert len(kept_tokens(ABC, order, 6, multiple=5)) == 5
    for rows in (2, 9):
        with pytest.raises(InputError, match=rf"prune.vocabulary.rows: {rows}: 3 tokens must stay"):
            kept_tokens(ABC, order, rows, multiple=1)


def test_tokens_are_counted_over_all_texts() -> None:
    tokenizer = byte_level()
    texts = ["the quick fox"] * 300 + ["<|end|>"]
    counts = count_tokens(tokenizer, texts)
    one = tokenizer("the quick fox")["input_ids"]
    assert counts[one[0]] == 300 * one.count(one[0])
    assert counts[tokenizer.eos_token_id] == 1
    assert sum(counts.values()) == 300 * len(one) + 1
