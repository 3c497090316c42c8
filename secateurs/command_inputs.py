"""The text that `secateurs prune` reads, as the library takes it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError, SettingError
from secateurs.settings.groups import Corpus
from secateurs.settings.method import Settings
from secateurs.settings.pruning import AUTO, VOCABULARY
from secateurs.text.calibration import by_domain
from secateurs.text.corpus import Split, build_corpus, split_documents
from secateurs.text.documents import Document
from secateurs.text.overlap import NGram
from secateurs.text.packing import tokens_of
from secateurs.text.portions import left_out_documents
from secateurs.text.words import words_of
from secateurs.vocabulary.pieces import backend_of
from secateurs.vocabulary.ranking import count_tokens


@dataclass(frozen=True)
class Read:
    """Sequences that calibrate and others that judge; how often each token id stands in text, by domain.

    counts: None where no token can go.
    """

    calibration: Split
    heldout: Split
    counts: dict[str, Counter[int]] | None


def read_text(
    texts: Mapping[str, list[Document]],
    tokenizer: PreTrainedTokenizerBase,
    settings: Settings,
    corpus: Corpus,
    avoid: set[NGram],
) -> Read:
    """The documents of each domain, split by document and cut into sequences.

    avoid: n-grams of items, whose documents are left out.

    Raises InputError for too little text, and where tokens can go from no tokenizer of this kind.
    """
    try:
        split = build_corpus(texts, tokens_of(tokenizer, Path("the model's tokenizer")), avoid, corpus)
    except SettingError as error:
        raise InputError(
            f"--text: {error}; or ask for less: --tokens 128 --set surgery.sequences=8"
        ) from None
    return Read(*split, _counts(texts, split[0], tokenizer, settings, corpus))


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
