"""Documents into sequences of tokens: which split a document is in, what is left out, how it is packed.

A document's split depends on a hash of the seed, its domain and its id only, so it stays where it is when
other documents come or go. The same hash gives the order in which documents are used.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from secateurs.errors import SettingError
from secateurs.settings.groups import Corpus
from secateurs.settings.recovery import OWN_KINDS
from secateurs.settings.sources import DIALOGUE_DOMAIN, is_dialogues, is_generated
from secateurs.text.documents import Document, Sequence
from secateurs.text.guard import Guard
from secateurs.text.overlap import NGram
from secateurs.text.packing import Counts, Packed, Packing, Tokens, pack_documents, place
from secateurs.text.shortage import Shortage


@dataclass
class Split:
    """The sequences of a split, the counts of each domain, and the n-grams in its text."""

    sequences: list[Sequence] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    ngrams: set[NGram] = field(default_factory=set)

    def add(self, domain: str, packed: Packed) -> None:
        """Add the sequences of a domain."""
        self.sequences += packed.rows
        self.counts[domain] = packed.counts
        self.ngrams |= packed.ngrams

    def metadata(self, settings: Corpus) -> dict[str, object]:
        """What the split's file holds besides its sequences: counts by domain, and the settings."""
        counts = {domain: asdict(counted) for domain, counted in self.counts.items()}
        for counted in counts.values():
            # Only conversations can be refused.
            if not counted["refused"]:
                del counted["refused"]
        return {"domains": counts, "settings": settings.model_dump()}


def build_corpus(
    sources: Mapping[str, list[Document]], tokens: Tokens, benchmarks: set[NGram], settings: Corpus
) -> tuple[Split, Split]:
    """Calibration and held-out sequences of every domain, as many of each as the settings ask for.

    The model's own text is calibrated on only. A calibration document that has an n-gram in common with a
    benchmark, or with held-out text of any domain, is dropped and counted. Raises InputError when a domain
    has too little text.
    """
    heldout, calibration = build_heldout(sources, tokens, settings), Split()
    avoid = _avoided(benchmarks, heldout)
    written = sum(len(found) for domain, found in sources.items() if is_dialogues(domain))
    others = sum(not is_dialogues(domain) for domain in sources)
    missing = others
    for domain, found in sources.items():
        documents, _ = split_documents(domain, found, settings)
        packing = Packing(domain, tokens, settings, Guard(found, avoid, settings.ngram))
        if not is_dialogues(domain):
            _fill(calibration, found, documents, packing, "calibration_sequences")
            continue
        # Rounded up, so that each part has as many as Text.times has read of it. What a part of short answers
        # has too little of, others have more of than is read.
        times = max(1, math.ceil(len(found) / written * others))
        least = times if domain == DIALOGUE_DOMAIN else 1
        missing -= _fill(calibration, found, documents, packing, "calibration_sequences", times, least)
    if written and missing > 0:
        raise SettingError(
            f"sample.dialogues.parts: the dialogues make {others - missing} times the sequences of "
            f"{settings.sequence_length} tokens that a domain gives, and {others} times as many are read; "
            "raise sample.dialogues.count, or lower sample.dialogues.parts or corpus.calibration_sequences"
        )
    return calibration, heldout


def build_heldout(sources: Mapping[str, list[Document]], tokens: Tokens, settings: Corpus) -> Split:
    """The held-out sequences of every domain alone. Raises InputError as build_corpus does."""
    heldout = Split()
    for domain, found in sources.items():
        if not is_generated(domain):
            _, documents = split_documents(domain, found, settings)
            packing = Packing(domain, tokens, settings, Guard(found, {}, settings.ngram))
            _fill(heldout, found, documents, packing, "heldout_sequences")
    return heldout


def build_rest(
    sources: Mapping[str, list[Document]],
    most: Mapping[str, int],
    heldout: Split,
    tokens: Tokens,
    benchmarks: set[NGram],
    settings: Corpus,
) -> Split:
    """As many sequences of calibration documents as there are, at most `most` of each of its domains.

    Of each document the same number of tokens is taken, enough to fill the domain if all are long enough. The
    calibration split's documents are in here too; those with an n-gram in common with a benchmark or with
    `heldout` are not. Raises InputError for a domain without a single sequence.
    """
    rest = Split()
    for domain, wanted in most.items():
        documents, _ = split_documents(domain, sources[domain], settings)
        per_document = math.ceil(wanted / max(1, len(documents)))
        guard = Guard(sources[domain], _avoided(benchmarks, heldout), settings.ngram)
        packed = pack_documents(documents, Packing(domain, tokens, settings, guard), per_document, wanted)
        rest.add(domain, packed)
        if not packed.rows:
            keys = {name: f"recover.own.{kind}" for kind, name in OWN_KINDS.items()}
            raise SettingError(
                f"{keys.get(domain, f'domains.{domain}')}: its calibration documents make no "
                f"sequence of {settings.sequence_length} tokens"
            )
    return rest


def split_documents(
    domain: str, documents: Iterable[Document], settings: Corpus
) -> tuple[list[Document], list[Document]]:
    """Calibration and held-out documents, each in the order of their hashes.

    Of what the model wrote itself none is held out.
    """
    fraction = 0.0 if is_generated(domain) or domain in OWN_KINDS.values() else settings.heldout_share
    # Parts of the dialogues have the order of the whole: what a recovery leaves out at the end of the whole
    # comes last in them too.
    name = DIALOGUE_DOMAIN if is_dialogues(domain) else domain
    placed = sorted((place(settings.seed, name, item.document), item.document, item) for item in documents)
    calibration = [item for place, _, item in placed if place >= fraction]
    heldout = [item for place, _, item in placed if place < fraction]
    return calibration, heldout


def _avoided(benchmarks: set[NGram], heldout: Split) -> dict[str, set[NGram]]:
    return {"overlap_benchmarks": benchmarks, "overlap_heldout": heldout.ngrams}


def _fill(
    split: Split,
    found: list[Document],
    documents: list[Document],
    packing: Packing,
    setting: str,
    times: int = 1,
    least: int = 1,
) -> int:
    """Pack `times` as many sequences of a domain into the split as `setting` says, or at least `least` times.

    Of each document the tokens of one sequence are taken, because long documents would otherwise fill the
    split alone; where the documents are too few for that, as many more of each as are needed. Returns how
    many times as many there are; raises InputError for fewer than `least`.
    """
    settings, per_document = packing.settings, 1
    asked: int = getattr(settings, setting)
    wanted = times * asked
    packed = pack_documents(documents, packing, per_document, wanted)
    while len(packed.rows) < wanted and packed.cut:
        missing = wanted * settings.sequence_length / max(1, packed.counts.tokens)
        per_document = max(per_document + 1, math.ceil(per_document * missing))
        packed = pack_documents(documents, packing, per_document, wanted)
    there = len(packed.rows) // asked
    if there < least:
        counts = packed.counts
        dropped = (counts.overlap_benchmarks, counts.overlap_heldout)
        shortage = Shortage(packing.domain, setting, times, found, documents, *dropped, counts.tokens)
        raise SettingError(shortage.message(settings))
    rows = packed.rows[: there * asked]
    split.add(packing.domain, replace(packed, rows=rows, counts=replace(packed.counts, sequences=len(rows))))
    return there
