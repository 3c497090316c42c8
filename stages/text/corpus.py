"""Documents into sequences of tokens: which split a document is in, what is left out, how it is packed.

A document's split depends on a hash of the seed, its domain and its id only, so it stays where it is when
other documents come or go. The same hash gives the order in which documents are used.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from stages.common.artifacts import Document, Sequence
from stages.common.errors import InputError
from stages.common.params import PARAMS_FILE, SELF_DOMAIN, Corpus
from stages.text.overlap import Run, word_runs

# Sequences' worth of tokens taken of one document for a split: long ones would otherwise fill it alone.
_SHARE = 1
# Characters of text a token: as many are usual, and more than the other are not worth tokenising, because
# the tokens beyond the share would only be cut off.
_USUAL, _MOST = 4, 16


@dataclass(frozen=True)
class Tokens:
    """What packing needs of a tokenizer: text to ids and back, and the ids around each document."""

    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass
class Counts:
    """What became of a domain's documents in a split; tokens and characters are of what was packed."""

    documents: int = 0
    overlap_benchmarks: int = 0
    overlap_heldout: int = 0
    sequences: int = 0
    tokens: int = 0
    characters: int = 0


@dataclass
class Split:
    """The sequences of a split, the counts of each domain, and the runs of words in its text."""

    sequences: list[Sequence] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    runs: set[Run] = field(default_factory=set)

    def metadata(self, settings: Corpus) -> dict[str, object]:
        """What the split's file tells about itself."""
        counts = {domain: asdict(counted) for domain, counted in self.counts.items()}
        return {"domains": counts, "settings": settings.model_dump()}


@dataclass(frozen=True)
class _Packing:
    """How a split's documents become sequences; share: sequences' worth of tokens taken of one document.

    avoid: runs of words whose documents are left out, by the field of Counts that counts them.
    """

    tokens: Tokens
    settings: Corpus
    share: int
    avoid: Mapping[str, set[Run]]


def tokens_of(tokenizer: PreTrainedTokenizerBase, where: Path) -> Tokens:
    """A document gets a beginning token if the tokenizer adds one to text, and always an end token.

    Raises InputError, naming the directory `where` it is from, for a tokenizer without an end token.
    """
    end = tokenizer.eos_token_id
    if not isinstance(end, int):
        raise InputError(f"{where}: its tokenizer has no end-of-text token to put between documents")
    first: list[int] = tokenizer("a")["input_ids"][:1]
    before = tuple(first) if first == [tokenizer.bos_token_id] else ()

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids))

    return Tokens(encode, decode, before, (end,))


def build_corpus(
    sources: Mapping[str, list[Document]], tokens: Tokens, benchmarks: set[Run], settings: Corpus
) -> tuple[Split, Split]:
    """Calibration and held-out sequences of every domain, as many of each as the settings ask for.

    The model's own text is calibrated on only. A calibration document that shares a run of words with a
    benchmark, or with held-out text of any domain, is dropped and counted. Raises InputError when a domain
    has too little text.
    """
    heldout, calibration = build_heldout(sources, tokens, settings), Split()
    packing = _Packing(tokens, settings, _SHARE, _avoided(benchmarks, heldout))
    for domain, found in sources.items():
        documents, _ = split_documents(domain, found, settings)
        _fill(calibration, domain, documents, packing, "calibration_sequences")
    return calibration, heldout


def build_heldout(sources: Mapping[str, list[Document]], tokens: Tokens, settings: Corpus) -> Split:
    """The held-out sequences of every domain alone. Raises InputError as build_corpus does."""
    heldout = Split()
    packing = _Packing(tokens, settings, _SHARE, {})
    for domain, found in sources.items():
        if domain != SELF_DOMAIN:
            _, documents = split_documents(domain, found, settings)
            _fill(heldout, domain, documents, packing, "heldout_sequences")
    return heldout


def build_rest(
    sources: Mapping[str, list[Document]],
    most: Mapping[str, int],
    heldout: Split,
    tokens: Tokens,
    benchmarks: set[Run],
    settings: Corpus,
) -> Split:
    """As many sequences of calibration documents as there are, at most `most` of each of its domains.

    Of every document so much is taken that they fill the domain if all are long enough. What is in the
    calibration split is in here too; text that shares a run of words with a benchmark or with `heldout`
    is not. Raises InputError for a domain without a single sequence.
    """
    rest = Split()
    for domain, wanted in most.items():
        documents, _ = split_documents(domain, sources[domain], settings)
        share = math.ceil(wanted / max(1, len(documents)))
        packing = _Packing(tokens, settings, share, _avoided(benchmarks, heldout))
        if not _add(rest, domain, documents, packing, wanted):
            raise InputError(
                f"{PARAMS_FILE}: domains.{domain}: its calibration documents make no sequence of "
                f"{settings.sequence_length} tokens"
            )
    return rest


def split_documents(
    domain: str, documents: Iterable[Document], settings: Corpus
) -> tuple[list[Document], list[Document]]:
    """Calibration and held-out documents, each in the order of their hashes; `self` has no held-out ones."""
    share = 0.0 if domain == SELF_DOMAIN else settings.heldout_share
    placed = sorted((_hash(settings.seed, domain, item.document), item.document, item) for item in documents)
    calibration = [item for place, _, item in placed if place >= share]
    heldout = [item for place, _, item in placed if place < share]
    return calibration, heldout


def pack(
    domain: str, pieces: Iterable[tuple[str, list[int]]], length: int, wanted: int | None
) -> list[Sequence]:
    """Rows of exactly `length` ids out of (document, ids) laid end to end; at most `wanted` rows, if given.

    What does not fill a last row is left out. Pieces are drawn only as long as rows are wanted.
    """
    rows: list[Sequence] = []
    ids: list[int] = []
    names: list[str] = []
    for name, piece in pieces:
        ids += piece
        names.append(name)
        while len(ids) >= length and (wanted is None or len(rows) < wanted):
            rows.append(Sequence(domain, tuple(names), tuple(ids[:length])))
            ids = ids[length:]
            names = [name] if ids else []
        if len(rows) == wanted:
            break
    return rows


def _avoided(benchmarks: set[Run], heldout: Split) -> dict[str, set[Run]]:
    return {"overlap_benchmarks": benchmarks, "overlap_heldout": heldout.runs}


def _fill(split: Split, domain: str, documents: list[Document], packing: _Packing, setting: str) -> None:
    """Pack as many sequences of a domain into the split as `setting` says, or raise InputError."""
    number, length = getattr(packing.settings, setting), packing.settings.sequence_length
    if _add(split, domain, documents, packing, number) < number:
        group = "sample.documents" if domain == SELF_DOMAIN else f"domains.{domain}.documents"
        raise InputError(
            f"{PARAMS_FILE}: corpus.{setting}: {number}: domain {domain} has {split.counts[domain].tokens} "
            f"tokens for them, and {number} sequences of {length} need {number * length}; "
            f"raise {group}, or lower corpus.{setting}"
        )


def _add(split: Split, domain: str, documents: list[Document], packing: _Packing, wanted: int) -> int:
    """Pack a domain's documents into the split, at most `wanted` sequences; return how many they are."""
    counts = split.counts[domain] = Counts()
    pieces = _pieces(split, domain, documents, packing)
    rows = pack(domain, pieces, packing.settings.sequence_length, wanted)
    counts.sequences = len(rows)
    split.sequences += rows
    return len(rows)


def _pieces(
    split: Split, domain: str, documents: list[Document], packing: _Packing
) -> Iterator[tuple[str, list[int]]]:
    counts, tokens = split.counts[domain], packing.tokens
    for item in documents:
        counts.documents += 1
        ids, text = _excerpt(domain, item, packing)
        runs = word_runs(text, packing.settings.ngram)
        overlap = next((name for name, known in packing.avoid.items() if not runs.isdisjoint(known)), None)
        if overlap:
            setattr(counts, overlap, getattr(counts, overlap) + 1)
            continue
        ids = [*tokens.before, *ids, *tokens.after]
        counts.tokens += len(ids)
        counts.characters += len(text)
        split.runs |= runs
        yield item.document, ids


def _excerpt(domain: str, item: Document, packing: _Packing) -> tuple[list[int], str]:
    """The ids taken of a document, and their text.

    A long document is entered at the start of a line chosen by hash: its opening is seldom like the rest
    (imports and a docstring in code, a definition in an encyclopedia).
    """
    settings = packing.settings
    most = packing.share * settings.sequence_length
    room = max(0, len(item.text) - most * _USUAL)
    offset = int(room * _hash(settings.seed, f"{domain}:start", item.document))
    start = item.text.rfind("\n", 0, offset) + 1
    ids = packing.tokens.encode(item.text[start : start + most * _MOST])[:most]
    return ids, packing.tokens.decode(ids)


def _hash(seed: int, domain: str, document: str) -> float:
    """A number in [0, 1) that looks random and depends on these three only."""
    digest = hashlib.blake2b(f"{domain}:{document}".encode(), key=str(seed).encode(), digest_size=8).digest()
    # 53 bits, so that the quotient cannot round up to 1.
    return (int.from_bytes(digest) >> 11) / 2**53
