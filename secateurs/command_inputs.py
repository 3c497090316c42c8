"""What `secateurs prune` reads: the model and the text that its arguments name, as the library takes them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError, SettingError
from secateurs.order import ENDINGS, Source
from secateurs.settings.groups import Corpus
from secateurs.settings.method import Settings
from secateurs.settings.pruning import AUTO, VOCABULARY
from secateurs.settings.sources import FieldReader, HubModel, ModelSource, PathDomain, PathModel, PlainReader
from secateurs.text.calibration import by_domain
from secateurs.text.corpus import Split, build_corpus, split_documents
from secateurs.text.documents import Document
from secateurs.text.packing import tokens_of
from secateurs.text.portions import left_out_documents
from secateurs.text.words import words_of
from secateurs.vocabulary.pieces import backend_of
from secateurs.vocabulary.ranking import count_tokens

# Documents of a domain at most: enough for every round and for healing, read in seconds.
DOCUMENTS = 2000
HELDOUT_SEQUENCES = 8


@dataclass(frozen=True)
class Read:
    """Sequences that calibrate and others that judge; how often each token id stands in text, by domain.

    counts: None where no token can go.
    """

    calibration: Split
    heldout: Split
    counts: dict[str, Counter[int]] | None


def model_source(model: str) -> ModelSource:
    """A model by its argument: a path that is there, or else an id on the hub."""
    if Path(model).exists():
        return PathModel(source="path", path=model, name=Path(model).stem, licence="unknown", base_model=None)
    return HubModel(source="hub", id=model, revision="main", name=model.rpartition("/")[2], licence="unknown")


def text_domain(source: Source) -> PathDomain:
    """A domain by its `--text`. Raises InputError for a field that is missing, or that nothing can have."""
    folder = Path(source.path).is_dir()
    path = f"{source.path.rstrip('/')}/**/*" if folder else source.path
    kind = ENDINGS.get(Path(source.path).suffix, "text")
    if kind in ("jsonl", "csv", "parquet"):
        if source.field is None:
            raise InputError(f"--text: {source.path}: which field holds the text? write {source.path}:FIELD")
        reader: FieldReader | PlainReader = FieldReader(format=kind, field=source.field)  # type: ignore[arg-type]
    elif source.field is not None:
        raise InputError(f"--text: {source.path}:{source.field}: only .jsonl, .csv and .parquet have fields")
    else:
        reader = PlainReader(format=kind)  # type: ignore[arg-type]
    return PathDomain(source="path", path=path, reader=reader, documents=DOCUMENTS, refused=None)


def read_text(
    texts: Mapping[str, list[Document]], tokenizer: PreTrainedTokenizerBase, settings: Settings, tokens: int
) -> Read:
    """The documents of each domain, split by document and cut into sequences of `tokens` tokens.

    Raises InputError for too little text, and where tokens can go from no tokenizer of this kind.
    """
    corpus = Corpus(
        sequence_length=tokens,
        calibration_sequences=_sequences(settings),
        heldout_sequences=HELDOUT_SEQUENCES,
        heldout_share=0.2,
        ngram=13,
        seed=0,
    )
    try:
        split = build_corpus(texts, tokens_of(tokenizer, Path("the model's tokenizer")), set(), corpus)
    except SettingError as error:
        raise InputError(
            f"--text: {error}; or ask for less: --tokens 128 --set surgery.sequences=8"
        ) from None
    return Read(*split, _counts(texts, split[0], tokenizer, settings, corpus))


def _sequences(settings: Settings) -> int:
    """How many sequences of each domain the settings read."""
    surgery, auto = settings.surgery, settings.prune.auto
    healed = surgery.sequences + max(surgery.choice_sequences, settings.mask.left_out)
    wanted = max(settings.capture.sequences, healed)
    if settings.prune.sites == AUTO:
        tried = min(auto.sequences, surgery.sequences) + surgery.choice_sequences
        wanted = max(wanted, max(settings.capture.sequences, tried) + auto.left_out)
    return wanted


def _counts(
    texts: Mapping[str, list[Document]],
    calibration: Split,
    tokenizer: PreTrainedTokenizerBase,
    settings: Settings,
    corpus: Corpus,
) -> dict[str, Counter[int]] | None:
    """Counts over the calibration documents of each domain, but those by which trials are judged."""
    prune, judged = settings.prune, set[tuple[str, str]]()
    if prune.sites == AUTO:
        rows = calibration.sequences
        judged = left_out_documents(rows, by_domain(rows), prune.auto.left_out)
    # A share of the decoder counts no rows, so that none are tried.
    tried = prune.sites == AUTO and VOCABULARY in prune.auto.kinds and prune.sparsity is None
    if not prune.vocabulary.rows and not tried:
        return None
    backend_of(tokenizer)
    counts = {}
    for domain, found in texts.items():
        read, _ = split_documents(domain, found, corpus)
        words = words_of(item for item in read if (domain, item.document) not in judged)
        counts[domain] = count_tokens(tokenizer, words)
    if not any(counts.values()):
        raise InputError(
            "--text: the trials of prune.sites: auto are judged by every document, so that no tokens can be "
            "counted; give text of more documents"
        )
    return counts
