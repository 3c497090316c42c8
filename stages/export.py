"""Stage, off the default road: the pruned checkpoint as a GGUF file for llama.cpp."""

from pathlib import Path

from stages.artifacts import atomic
from stages.checkpoints import load_tokenizer
from stages.console import stage, summary
from stages.exporting.gguf_file import write_gguf
from stages.params import read_params

PRUNED = Path("data/pruned")
OUTPUT = Path("data/export/model.gguf")


@stage
def main() -> None:
    """Write data/export/model.gguf from data/pruned."""
    params = read_params()
    with atomic(OUTPUT) as path:
        architecture = write_gguf(
            PRUNED, load_tokenizer(PRUNED), path, params.export.precision, f"{params.model.name}-pruned"
        )
    summary("export", f"{OUTPUT}: {architecture}, {params.export.precision}, {OUTPUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
