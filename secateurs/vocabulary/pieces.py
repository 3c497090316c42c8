"""What a tokenizer's file says of its tokens: which there are, what they are made of, which must stay."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import Decoder
from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.vocabulary.merging import derivations

BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_UNIGRAM, _BPE = "Unigram", "BPE"


@dataclass(frozen=True)
class Pieces:
    """The tokens of a tokenizer, by id.

    tokens: id -> string as the file spells it. made_of: id -> the ids that the text of a token falls into
    when the token goes: the two that BPE merges it from, or the bytes of a character. Tokens that no merge
    makes and characters of another alphabet have none. merged: the ids whose parts must stay while they
    stay. fixed: the ids that must stay. dead: ids of tokens that no text is ever cut into.
    spelled: id -> text as a reader sees it; a part of a character is U+FFFD.
    """

    tokens: Mapping[int, str]
    made_of: Mapping[int, tuple[int, ...]]
    merged: frozenset[int]
    fixed: frozenset[int]
    dead: frozenset[int]
    spelled: Mapping[int, str]


def backend_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The tokenizer.json of a tokenizer, parsed. InputError where it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"tokenizer: {type(tokenizer).__name__}: has no tokenizer.json, so its vocabulary cannot be cut; "
            "convert it to a fast tokenizer, or set prune.vocabulary.rows: 0"
        )
    parsed: dict[str, Any] = json.loads(backend.to_str())
    return parsed


def read_pieces(tokenizer: PreTrainedTokenizerBase, rows: int, named: Iterable[int] = ()) -> Pieces:
    """What there is to know of a tokenizer's tokens before some of them go.

    rows: how many the model has; tokens beyond them are none of the model's. named: ids that must stay
    because configs or the chat template name them. Raises InputError for a tokenizer that is neither BPE nor
    unigram, and for one whose merges are not of plain strings.
    """
    backend = backend_of(tokenizer)
    model, added = backend["model"], {item["content"]: int(item["id"]) for item in backend["added_tokens"]}
    vocabulary = _vocabulary(model)
    ids = {token: index for token, index in (vocabulary | added).items() if index < rows}
    plain = {token: index for token, index in vocabulary.items() if index < rows and token not in added}
    fallback = bool(model.get("byte_fallback")) and ids.keys() >= set(BYTES)
    characters = {token: index for token, index in plain.items() if len(token) == 1}

    fixed = {index for index in (*added.values(), *named) if index < rows}
    fixed |= {ids[token] for token in _required(backend, vocabulary) if token in ids}
    decoder = _decoder(backend)
    if fallback:
        fixed |= {ids[token] for token in BYTES}
        fixed |= {index for token, index in characters.items() if not _same_by_bytes(token, decoder)}
        made_of = {index: tuple(ids[byte] for byte in _bytes(token)) for token, index in characters.items()}
    else:
        fixed, made_of = fixed | set(characters.values()), {}
    merged, dead = frozenset[int](), frozenset[int]()
    if model["type"] == _BPE:
        longer = {token: index for token, index in plain.items() if len(token) > 1 and token not in BYTES}
        made = _derivations(tokenizer.backend_tokenizer, backend, longer)
        parts = {longer[token]: (ids[one], ids[two]) for token, (one, two) in made.items()}
        made_of |= parts
        merged = frozenset(parts)
        # Such a token is still found where whole words are looked up before merging.
        if not model.get("ignore_merges"):
            dead = frozenset(longer.values()) - merged - fixed
    tokens = {index: token for token, index in ids.items()}
    spelled = {index: decoder.decode([token]) if decoder else token for index, token in tokens.items()}
    return Pieces(tokens, made_of, merged, frozenset(fixed), dead, spelled)


def _vocabulary(model: Mapping[str, Any]) -> dict[str, int]:
    """String -> id of the tokens of a tokenizer.json's model."""
    if model["type"] == _BPE:
        for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
            if model.get(key):
                raise InputError(
                    f"tokenizer.json: model.{key}: {model[key]}: a vocabulary is cut only where merges join "
                    "strings as they are; set prune.vocabulary.rows: 0"
                )
        return dict(model["vocab"])
    if model["type"] == _UNIGRAM:
        return {token: index for index, (token, _) in enumerate(model["vocab"])}
    raise InputError(
        f"tokenizer.json: model.type: {model['type']}: only vocabularies of BPE and unigram are cut; "
        "set prune.vocabulary.rows: 0"
    )


def _required(backend: Mapping[str, Any], vocabulary: Mapping[str, int]) -> set[str]:
    """The tokens that other parts of the file name, and those that set how others are cut."""
    model = backend["model"]
    required = {token for token, _ in post_processed(backend["post_processor"])}
    required |= {backend["padding"]["pad_token"]} if backend["padding"] else set()
    if model["type"] == _BPE:
        return required | ({model["unk_token"]} if model["unk_token"] else set())
    by_id = {index: token for token, index in vocabulary.items()}
    required |= {by_id[model["unk_id"]]} if model["unk_id"] is not None else set()
    # An unknown character's score is the least of all less a constant, so which cut wins depends on it.
    return required | {min(model["vocab"], key=lambda item: item[1])[0]}


def post_processed(step: Mapping[str, Any] | None) -> list[tuple[str, int]]:
    """The tokens, with their ids, that a tokenizer.json's post-processor puts around text."""
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [pair for inner in step["processors"] for pair in post_processed(inner)]
    found = [(str(step[key][0]), int(step[key][1])) for key in ("cls", "sep") if key in step]
    for item in step.get("special_tokens", {}).values():
        found += zip(item["tokens"], item["ids"], strict=True)
    return found


def _derivations(
    tokenizer: Tokenizer, backend: Mapping[str, Any], longer: Mapping[str, int]
) -> dict[str, tuple[str, str]]:
    """The last merge of each token that can be made, tokens of more than one character."""
    model = backend["model"]
    if model.get("ignore_merges"):
        # Looked up whole, a token would seem to be made where it is only found.
        tokenizer = Tokenizer.from_str(json.dumps({**backend, "model": {**model, "ignore_merges": False}}))
    cutter = tokenizer.model
    cut = {token: [one.value for one in cutter.tokenize(token)] == [token] for token in longer}
    merges = [(left, right) for left, right in model["merges"]]
    found = derivations(merges, longer, cut)
    return {token: merge for token, merge in found.items() if merge is not None}


def _decoder(backend: Mapping[str, Any]) -> Decoder | None:
    """What makes text of tokens."""
    empty = {"model": {"type": _BPE, "vocab": {}, "merges": []}, "added_tokens": []}
    rest = {"post_processor": None, "padding": None}
    decoder: Decoder | None = Tokenizer.from_str(json.dumps({**backend, **empty, **rest})).decoder
    return decoder


def _bytes(token: str) -> list[str]:
    return [BYTES[byte] for byte in token.encode()]


def _same_by_bytes(token: str, decoder: Decoder | None) -> bool:
    """Whether a character's bytes make the same text; the sign that stands for a space often does not."""
    if decoder is None:
        return False
    # Between others, because a decoder may strip what is first or last.
    around = BYTES[ord("a")]
    spelled: bool = decoder.decode([around, token, around]) == decoder.decode(
        [around, *_bytes(token), around]
    )
    return spelled
