"""Stage: the text that a recovery trains on, as much as it draws (optional pipeline)."""

from stages.common.artifacts import write_sequences
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.params import Params, read_params
from stages.common.paths import RECOVERY_TEXT
from stages.text.corpus import build_heldout, build_rest
from stages.text.inputs import corpus_inputs


@stage
def main() -> None:
    """Pack the calibration documents of data/sources, far more of each than pruning reads."""
    params = read_params()
    hold(RECOVERY_TEXT)
    sources, tokens, benchmarks = corpus_inputs(params)
    heldout = build_heldout(sources, tokens, params.corpus)
    rest = build_rest(sources, drawn(params), heldout, tokens, benchmarks, params.corpus)
    write_sequences(RECOVERY_TEXT, rest.sequences, rest.metadata(params.corpus))
    summary(
        "recovery corpus",
        f"{len(rest.sequences)} sequences of {params.corpus.sequence_length} tokens, by domain "
        + ", ".join(f"{domain} {counts.sequences}" for domain, counts in rest.counts.items()),
    )


def drawn(params: Params) -> dict[str, int]:
    """How many sequences of each domain that counts a recovery draws: more could not be read."""
    weights = {domain: weight for domain, weight in params.mixture.items() if weight > 0}
    draws = params.recover.steps * params.recover.batch_size / sum(weights.values())
    # Rounded up, because a domain is drawn in proportion to the mixture to within one sequence.
    return {domain: int(draws * weight) + 1 for domain, weight in weights.items()}


if __name__ == "__main__":
    main()
