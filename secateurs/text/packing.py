"""A domain's documents as sequences of tokens: how they are tokenised, cut, and laid end to end."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from secateurs.families.boundaries import beginning, separator
from secateurs.families.tokenizing import encode
from secateurs.settings.groups import Corpus
from secateurs.settings.sources import is_dialogues
from secateurs.text.conversations import (
    ConversationRefusedError,
    Render,
    contents,
    no_template,
    rendered,
    renderer,
)
from secateurs.text.documents import Document, Sequence
from secateurs.text.guard import Guard
from secateurs.text.overlap import NGram, ngrams
from secateurs.text.turns import NO_DIALOGUES, Turns, from_json, no_turns, turns_of

# Characters of text a token: _USUAL are the usual number. _MOST are all that is tokenised for each token
# wanted, because the tokens beyond those wanted would only be cut off.
_USUAL, _MOST = 4, 16


@dataclass(frozen=True)
class Tokens:
    """What packing needs of a tokenizer: text to ids and back, and the ids around each document.

    render: a conversation's JSON to text, by the chat template. may_drop: the domains whose conversations are
    left out where it refuses them. turns: that template around a question.
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    before: tuple[int, ...]
    after: tuple[int, ...]
    render: Render = no_template
    turns: Callable[[], Turns] = no_turns
    may_drop: frozenset[str] = frozenset()


@dataclass
class Counts:
    """What became of a domain's documents in a split; tokens and characters are of what was packed."""

    documents: int = 0
    overlap_benchmarks: int = 0
    overlap_heldout: int = 0
    refused: int = 0
    sequences: int = 0
    tokens: int = 0
    characters: int = 0


@dataclass(frozen=True)
class Packing:
    """How the documents of a domain become sequences of a split, and which of them are left out."""

    domain: str
    tokens: Tokens
    settings: Corpus
    guard: Guard


@dataclass
class Packed:
    """The sequences of a domain, their counts and n-grams; cut: whether a document was taken in part only."""

    rows: list[Sequence] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    ngrams: set[NGram] = field(default_factory=set)
    cut: bool = False


@dataclass(frozen=True)
class Piece:
    """What is taken of a document; answers: which of its ids are answers, empty where that plays no part."""

    document: str
    ids: list[int]
    answers: list[bool]


def tokens_of(tokenizer: PreTrainedTokenizerBase, where: Path) -> Tokens:
    """A document gets a beginning token if the tokenizer adds one to text, and always a separator after it.

    Which token that is, families/boundaries.py says. Raises InputError, naming the directory `where` the
    tokenizer is from, where it has none.
    """
    after = (separator(tokenizer, where),)

    def ids_of(text: str) -> list[int]:
        (ids,) = encode(tokenizer, [text])
        return ids

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids))

    turns = cache(partial(turns_of, tokenizer, where, NO_DIALOGUES))
    return Tokens(ids_of, decode, beginning(tokenizer), after, renderer(tokenizer), turns)


def pack(domain: str, pieces: Iterable[Piece], length: int, wanted: int | None) -> list[Sequence]:
    """Rows of exactly `length` ids out of pieces laid end to end; at most `wanted` rows, if given.

    What does not fill a last row is left out. Pieces are drawn only as long as rows are wanted.
    """
    rows: list[Sequence] = []
    ids: list[int] = []
    answers: list[bool] = []
    names: list[str] = []
    for piece in pieces:
        ids += piece.ids
        answers += piece.answers
        names.append(piece.document)
        while len(ids) >= length and (wanted is None or len(rows) < wanted):
            rows.append(Sequence(domain, tuple(names), tuple(ids[:length]), tuple(answers[:length])))
            ids, answers = ids[length:], answers[length:]
            names = [piece.document] if ids else []
        if len(rows) == wanted:
            break
    return rows


def pack_documents(documents: list[Document], packing: Packing, per_document: int, wanted: int) -> Packed:
    """At most `wanted` sequences of a domain, of each document at most `per_document` sequences' tokens."""
    packed = Packed()
    pieces = _pieces(packed, documents, packing, per_document)
    packed.rows = pack(packing.domain, pieces, packing.settings.sequence_length, wanted)
    packed.counts.sequences = len(packed.rows)
    return packed


def _pieces(
    packed: Packed, documents: list[Document], packing: Packing, per_document: int
) -> Iterator[Piece]:
    counts, tokens = packed.counts, packing.tokens
    for item in documents:
        counts.documents += 1
        take = _dialogue if is_dialogues(packing.domain) else _chat if item.chat else _excerpt
        try:
            ids, answers, texts, cut = take(item, packing, per_document)
        except ConversationRefusedError:
            if packing.domain not in tokens.may_drop:
                rendered(packing.domain, item, tokens.render)
            counts.refused += 1
            continue
        found = {one for text in texts for one in ngrams(text, packing.settings.ngram)}
        overlap = packing.guard.overlap(found)
        if overlap:
            setattr(counts, overlap, getattr(counts, overlap) + 1)
            continue
        packed.cut |= cut
        # A chat template may write the beginning token itself.
        before = () if tuple(ids[: len(tokens.before)]) == tokens.before else tokens.before
        ids = [*before, *ids, *tokens.after]
        if answers:
            # The separator is what the model writes last.
            answers = [*([False] * len(before)), *answers, *([True] * len(tokens.after))]
        counts.tokens += len(ids)
        counts.characters += sum(map(len, texts))
        packed.ngrams |= found
        yield Piece(item.document, ids, answers)


Taken = tuple[list[int], list[bool], list[str], bool]
"""Of a document: the ids, which of them are answers, the text in which overlap is looked for, and whether
there is more."""


def _dialogue(item: Document, packing: Packing, per_document: int) -> Taken:
    """One of the model's own dialogues, whole: all that it wrote in answer counts as an answer."""
    dialogue, turns = from_json(item.text), packing.tokens.turns()
    asked = packing.tokens.encode(turns.before + dialogue.question + turns.between)
    answer = packing.tokens.encode(dialogue.answer + (turns.after if dialogue.ended else ""))
    answers = [False] * len(asked) + [True] * len(answer)
    return asked + answer, answers, [dialogue.question, dialogue.answer], False


def _chat(item: Document, packing: Packing, per_document: int) -> Taken:
    """A conversation from its first turn on, whole turns or not.

    The template's own words do not count as overlap, because all conversations have them.
    """
    most = per_document * packing.settings.sequence_length
    text = packing.tokens.render(item.text)
    ids = packing.tokens.encode(text[: most * _MOST])
    return ids[:most], [], contents(item.text), len(text) > most * _MOST or len(ids) > most


def _excerpt(item: Document, packing: Packing, per_document: int) -> Taken:
    """A part of a document.

    A long document is entered at the start of a line chosen by hash: its opening is seldom like the rest
    (imports and a docstring in code, a definition in an encyclopedia).
    """
    settings = packing.settings
    most = per_document * settings.sequence_length
    room = max(0, len(item.text) - most * _USUAL)
    offset = int(room * place(settings.seed, f"{packing.domain}:start", item.document))
    start = item.text.rfind("\n", 0, offset) + 1
    part = item.text[start : start + most * _MOST]
    ids = packing.tokens.encode(part)
    cut = len(part) < len(item.text) or len(ids) > most
    return ids[:most], [], [packing.tokens.decode(ids[:most])], cut


def place(seed: int, domain: str, document: str) -> float:
    """A pseudo-random number in [0, 1) that depends on these three only."""
    digest = hashlib.blake2b(f"{domain}:{document}".encode(), key=str(seed).encode(), digest_size=8).digest()
    # 53 bits, so that the quotient cannot round up to 1.
    return (int.from_bytes(digest) >> 11) / 2**53
