"""What a corpus is built from: documents, a tokenizer, and the benchmarks' text to keep out."""

from dataclasses import replace
from pathlib import Path

from secateurs.errors import InputError
from secateurs.progress import progress
from secateurs.settings.sources import GENERATED
from secateurs.text.benchmark_items import parse_items
from secateurs.text.documents import Document
from secateurs.text.overlap import NGram, ngrams_of_items
from secateurs.text.packing import Tokens, tokens_of
from stages.common.artifacts import read_documents
from stages.common.checkpoints import load_tokenizer
from stages.common.hashes import check_hash
from stages.common.paths import DATA
from stages.params.file import Params


def corpus_inputs(params: Params, data: Path = DATA) -> tuple[dict[str, list[Document]], Tokens, set[NGram]]:
    """From `data`: every domain's documents, the model's tokenizer, the n-grams of the benchmarks.

    Text of the model's own is left out where there is none (`mixture.self: 0`, `mixture.dialogues: 0`).
    """
    sources = {
        domain: read_documents(data / "sources" / f"{domain}.parquet")
        for domain in [*params.domains, *GENERATED]
    }
    for domain in GENERATED:
        if not sources[domain]:
            del sources[domain]
    found: set[NGram] = set()
    for task in progress(params.benchmarks, label="benchmarks", unit="tasks"):
        path = data / "benchmarks" / f"{task}.jsonl"
        if not path.exists():
            raise InputError(f"{path}: not found; run `dvc repro`")
        check_hash(path)
        items = [item for _, item in parse_items(str(path), path.read_bytes())]
        found |= ngrams_of_items(items, params.corpus.ngram)
    model = data / "model"
    tokens = tokens_of(load_tokenizer(model), model)
    may_drop = frozenset(name for name, domain in params.domains.items() if domain.refused == "drop")
    return sources, replace(tokens, may_drop=may_drop), found
