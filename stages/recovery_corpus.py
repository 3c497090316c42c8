"""Stage: the text that a recovery trains on, as much as it draws (optional pipeline)."""

from secateurs.settings.recovery import OWN_KINDS
from secateurs.settings.sources import GENERATED
from secateurs.text.corpus import build_heldout, build_rest
from stages.common.artifacts import read_documents, write_sequences, writers_of
from stages.common.console import stage, summary
from stages.common.corpus_inputs import corpus_inputs
from stages.common.locks import hold
from stages.common.paths import OWN_TEXT, RECOVERY_TEXT, SOURCES
from stages.params.file import read_params
from stages.recovering.text import rows_drawn


@stage
def main() -> None:
    """Pack calibration documents, far more of each than pruning reads, and the dense model's own text."""
    params = read_params()
    hold(RECOVERY_TEXT)
    sources, tokens, benchmarks = corpus_inputs(params)
    heldout = build_heldout(sources, tokens, params.corpus)
    paths = {domain: OWN_TEXT / f"{kind}.parquet" for kind, domain in OWN_KINDS.items()}
    own = {domain: read_documents(path) for domain, path in paths.items()}
    paths |= {domain: SOURCES / f"{domain}.parquet" for domain in GENERATED if domain in sources}
    rest = build_rest(sources | own, rows_drawn(params), heldout, tokens, benchmarks, params.corpus)
    write_sequences(RECOVERY_TEXT, rest.sequences, rest.metadata(params.corpus) | writers_of(paths))
    summary(
        "recovery corpus",
        f"{len(rest.sequences)} sequences of {params.corpus.sequence_length} tokens, by domain "
        + ", ".join(f"{domain} {counts.sequences}" for domain, counts in rest.counts.items()),
    )


if __name__ == "__main__":
    main()
