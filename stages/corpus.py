"""Stage: calibration and held-out sequences of every domain."""

from pathlib import Path

from stages import artifacts
from stages.checkpoints import load_tokenizer
from stages.console import progress, stage, summary
from stages.errors import InputError
from stages.params import SELF_DOMAIN, Params, read_params
from stages.text.benchmark_items import parse_items
from stages.text.corpus import Tokens, build_corpus, tokens_of
from stages.text.overlap import Run, runs_of_items

DATA = Path("data")


@stage
def main() -> None:
    """Split, tokenise and pack data/sources into data/corpus, as params.yaml has it under `corpus`."""
    params = read_params()
    calibration, heldout = build_corpus(*corpus_inputs(params), params.corpus)
    for name, split in (("calibration", calibration), ("heldout", heldout)):
        path = DATA / "corpus" / f"{name}.parquet"
        artifacts.write_sequences(path, split.sequences, split.metadata(params.corpus))
    dropped = sum(c.overlap_benchmarks + c.overlap_heldout for c in calibration.counts.values())
    summary(
        "corpus",
        f"{len(calibration.sequences)} calibration and {len(heldout.sequences)} held-out sequences of "
        f"{params.corpus.sequence_length} tokens; {dropped} documents dropped for overlap",
    )


def corpus_inputs(
    params: Params, data: Path = DATA
) -> tuple[dict[str, list[artifacts.Document]], Tokens, set[Run]]:
    """From `data`: every domain's documents, the model's tokenizer, the runs of words in the benchmarks."""
    sources = {
        domain: artifacts.read_documents(data / "sources" / f"{domain}.parquet")
        for domain in [*params.domains, SELF_DOMAIN]
    }
    runs: set[Run] = set()
    for task in progress(params.benchmarks, label="benchmarks", unit="tasks"):
        path = data / "benchmarks" / f"{task}.jsonl"
        if not path.exists():
            raise InputError(f"{path}: not found; run `dvc repro`")
        runs |= runs_of_items(parse_items(str(path), path.read_bytes()), params.corpus.ngram)
    model = data / "model"
    return sources, tokens_of(load_tokenizer(model), model), runs


if __name__ == "__main__":
    main()
