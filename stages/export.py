"""Stage: the pruned checkpoint as a GGUF file for llama.cpp (optional pipeline)."""

from stages.checkpoints.loading import load_tokenizer
from stages.common.artifacts import atomic
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.params import read_params
from stages.common.paths import EXPORT, PRUNED
from stages.exporting.gguf_file import write_gguf


@stage
def main() -> None:
    """Write data/export/model.gguf from data/pruned."""
    params = read_params()
    hold(EXPORT)
    with atomic(EXPORT) as path:
        architecture = write_gguf(
            PRUNED, load_tokenizer(PRUNED), path, params.export.precision, f"{params.model.name}-pruned"
        )
    summary("export", f"{EXPORT}: {architecture}, {params.export.precision}, {EXPORT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
