import json
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from secateurs.checkpoints.saving import save_tokenizer
from secateurs.errors import InputError
from secateurs.vocabulary.pieces import Pieces, backend_of, read_pieces
from secateurs.vocabulary.ranking import kept_tokens, removal_order
from secateurs.vocabulary.trimming import new_ids, trim_tokenizer, trimmed_backend
from tests.vocabulary.small import KINDS, TEXT, byte_level

WORDS = sorted({word for line in TEXT for word in line.split(" ")})
PIECE = st.one_of(
    st.sampled_from(WORDS), st.sampled_from([" ", "  ", "\n", "<tool>", "<|end|>", "</s>"]), st.text()
)
TEXTS = st.lists(PIECE, max_size=8).map(" ".join) | st.lists(PIECE, max_size=8).map("".join)
kinds = pytest.mark.parametrize("kind", KINDS)


@cache
def dense(kind: str) -> tuple[PreTrainedTokenizerFast, Tokenizer, Pieces]:
    tokenizer = KINDS[kind]()
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    return tokenizer, backend, read_pieces(tokenizer, len(tokenizer))


def without(kind: str, gone: list[int]) -> tuple[Tokenizer, dict[int, int]]:
    tokenizer, backend, pieces = dense(kind)
    ids = new_ids(tokenizer, pieces.tokens.keys() - set(gone), len(tokenizer))
    trimmed = Tokenizer.from_str(json.dumps(trimmed_backend(json.loads(backend.to_str()), ids)))
    return trimmed, ids


def shuffled(kind: str, data: st.DataObject, valued: set[int]) -> list[int]:
    """An order of removal by random weights, in which what is valued goes last."""
    *_, pieces = dense(kind)
    random = Random(data.draw(st.integers(0, 2**16)))
    return removal_order(
        pieces, {index: random.random() + 1e9 * (index in valued) for index in pieces.tokens}
    )


@kinds
@settings(max_examples=60)
@given(data=st.data())
def test_text_whose_tokens_all_stay_is_cut_into_the_same_tokens(kind: str, data: st.DataObject) -> None:
    text = data.draw(TEXTS)
    _, backend, _ = dense(kind)
    used = backend.encode(text).ids
    order = shuffled(kind, data, set(used))
    # As many as can go before the first token of the text does, or fewer.
    first = next((place for place, index in enumerate(order) if index in used), len(order))
    trimmed, ids = without(kind, order[: data.draw(st.integers(0, first) | st.just(first))])
    assert trimmed.encode(text).ids == [ids[index] for index in used]


@kinds
@settings(max_examples=60)
@given(data=st.data())
def test_any_text_is_spelled_as_before_whatever_goes(kind: str, data: st.DataObject) -> None:
    text = data.draw(TEXTS)
    _, backend, _ = dense(kind)
    order = shuffled(kind, data, set())
    trimmed, _ = without(kind, order[: data.draw(st.integers(0, len(order)) | st.just(len(order)))])
    spelled = trimmed.decode(trimmed.encode(text).ids, skip_special_tokens=False)
    assert spelled == backend.decode(backend.encode(text).ids, skip_special_tokens=False)
    if kind == "byte-level":
        assert spelled == text


@kinds
@settings(max_examples=30)
@given(data=st.data())
def test_every_kept_token_can_still_be_made(kind: str, data: st.DataObject) -> None:
    *_, pieces = dense(kind)
    order = shuffled(kind, data, set())
    gone = order[: data.draw(st.integers(0, len(order)))]
    trimmed, ids = without(kind, gone)
    model = json.loads(trimmed.to_str())["model"]
    if model["type"] == "BPE":
        model["ignore_merges"] = False
        cutter = Tokenizer.from_str(json.dumps(json.loads(trimmed.to_str()) | {"model": model})).model
        made = [pieces.tokens[index] for index in pieces.merged if index in ids]
        assert [one for one in made if [part.value for part in cutter.tokenize(one)] != [one]] == []


def test_a_token_is_made_of_what_bpe_merges_it_from_where_several_merges_would_do() -> None:
    merges = [
        ("b", "c"),
        ("a", "b"),
        ("ab", "c"),
        ("a", "bc"),
        ("c", "a"),
        ("a", "a"),
        ("ca", "a"),
        ("c", "aa"),
    ]
    tokens = ["a", "b", "c", "bc", "ab", "abc", "ca", "aa", "caa"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocabulary, merges)))
    pieces = read_pieces(tokenizer, 9)
    # "bc" comes before "ab", and "ca" before "aa".
    made_of = {"bc": "b c", "ab": "a b", "abc": "a bc", "ca": "c a", "aa": "a a", "caa": "ca a"}
    assert pieces.made_of == {
        vocabulary[token]: tuple(vocabulary[part] for part in parts.split())
        for token, parts in made_of.items()
    }
    ids = new_ids(tokenizer, [vocabulary[token] for token in ("a", "b", "c", "bc", "abc", "ca", "caa")], 9)
    trimmed = Tokenizer.from_str(json.dumps(trimmed_backend(backend_of(tokenizer), ids)))
    assert trimmed.encode("abc").tokens == ["abc"]
    assert trimmed.encode("caa").tokens == ["caa"]


def test_the_piece_that_sets_the_score_of_unknown_characters_stays() -> None:
    scores = {"<unk>": 0.0, "ab": -12.0, "cd": -12.0, "ef": -12.0, "bcdef": -5.0, "yy": -12.0, "zz": -22.0}
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=0))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    pieces = read_pieces(fast, 7)
    first = removal_order(pieces, {index: float(index < 5) for index in pieces.tokens})[0]
    assert pieces.tokens[first] == "yy"
    ids = new_ids(fast, pieces.tokens.keys() - {first}, 7)
    trimmed = Tokenizer.from_str(json.dumps(trimmed_backend(backend_of(fast), ids)))
    # Without "zz", an unknown character and "bcdef" would win.
    assert trimmed.encode("abcdef").tokens == ["ab", "cd", "ef"]


@kinds
def test_a_trimmed_tokenizer_saved_and_loaded_by_stock_code_is_the_same(kind: str, tmp_path: Path) -> None:
    tokenizer, _, pieces = dense(kind)
    order = removal_order(pieces, dict.fromkeys(pieces.tokens, 0.0))
    kept = kept_tokens(pieces, order, len(pieces.tokens) - len(order) // 2, multiple=16)
    trimmed = trim_tokenizer(tokenizer, new_ids(tokenizer, kept, len(tokenizer)))
    save_tokenizer(trimmed, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) == len(kept)
    assert len(kept) % 16 == 0
    assert loaded.get_vocab() == trimmed.get_vocab()
    for text in (*TEXT, "Ünknown 未知 🙂 <tool>"):
        assert loaded(text)["input_ids"] == trimmed(text)["input_ids"]
        assert max(loaded(text)["input_ids"]) < len(kept)
    assert loaded.special_tokens_map == tokenizer.special_tokens_map
    assert loaded.chat_template == tokenizer.chat_template
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".jinja") == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_what_stands_around_text_has_the_new_ids() -> None:
    tokenizer, _, pieces = dense("unigram")
    kept = sorted(pieces.tokens.keys() - set(removal_order(pieces, dict.fromkeys(pieces.tokens, 0.0))))
    trimmed = trim_tokenizer(tokenizer, new_ids(tokenizer, kept, len(tokenizer)))
    tokens = trimmed.convert_ids_to_tokens(trimmed("a", "b")["input_ids"])
    assert [tokens[0], tokens.count("</s>")] == ["<s>", 1]


def test_an_added_token_without_a_row_stays_beyond_the_rows() -> None:
    tokenizer = byte_level()
    rows = len(tokenizer) - 1
    pieces = read_pieces(tokenizer, rows)
    kept = pieces.tokens.keys() - set(removal_order(pieces, dict.fromkeys(pieces.tokens, 0.0)))
    ids = new_ids(tokenizer, kept, rows)
    assert ids[rows] == len(kept)
    assert trim_tokenizer(tokenizer, ids)("a<|start|>")["input_ids"][-1] == len(kept)


def test_a_vocabulary_of_words_is_refused() -> None:
    tokenizer = byte_level()
    backend = backend_of(tokenizer)
    words = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    other = Tokenizer.from_str(json.dumps(backend | {"model": words, "added_tokens": []}))
    with pytest.raises(InputError, match=r"tokenizer.json: model.type: WordLevel: only vocabularies of BPE"):
        read_pieces(PreTrainedTokenizerFast(tokenizer_object=other), 1)
