"""Stage, off the default road: the text that a recovery trains on, all that there is up to what it draws."""

from pathlib import Path

from stages.artifacts import write_sequences
from stages.console import stage, summary
from stages.corpus import corpus_inputs
from stages.params import Params, read_params
from stages.text.corpus import build_heldout, build_rest

OUTPUT = Path("data/corpus/recovery.parquet")


@stage
def main() -> None:
    """Pack the calibration documents of data/sources, far more of each than pruning reads."""
    params = read_params()
    sources, tokens, benchmarks = corpus_inputs(params)
    heldout = build_heldout(sources, tokens, params.corpus)
    rest = build_rest(sources, drawn(params), heldout, tokens, benchmarks, params.corpus)
    write_sequences(OUTPUT, rest.sequences, rest.metadata(params.corpus))
    summary(
        "recovery corpus",
        f"{len(rest.sequences)} sequences of {params.corpus.sequence_length} tokens, by domain "
        + ", ".join(f"{domain} {counts.sequences}" for domain, counts in rest.counts.items()),
    )


def drawn(params: Params) -> dict[str, int]:
    """How many sequences of each domain that counts a recovery draws: more could not be read."""
    weights = {domain: weight for domain, weight in params.mixture.items() if weight > 0}
    draws = params.recover.steps * params.recover.batch_size / sum(weights.values())
    # Rounded up: a domain's draws are its share to within one.
    return {domain: int(draws * weight) + 1 for domain, weight in weights.items()}


if __name__ == "__main__":
    main()
