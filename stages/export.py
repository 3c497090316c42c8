"""Stage: the pruned checkpoint as a GGUF file for llama.cpp (optional pipeline)."""

from secateurs.files.atomic import atomic
from secateurs.gguf.converter import find_converter
from secateurs.gguf.exporting import Programs, export_gguf
from secateurs.gguf.gguf_file import Target
from secateurs.gguf.llama_quantize import K_QUANTS, find_program
from stages.common.checkpoints import load_tokenizer
from stages.common.console import stage, summary
from stages.common.hashes import check_hashes
from stages.common.locks import hold
from stages.common.paths import EXPORT, PRUNED
from stages.params.file import read_params


@stage
def main() -> None:
    """Write data/export/model.gguf from data/pruned."""
    params = read_params()
    hold(EXPORT)
    check_hashes(PRUNED)
    export = params.export
    with atomic(EXPORT) as path:
        program = find_program(export.llama_quantize) if export.precision in K_QUANTS else None
        programs = Programs(find_converter(export.converter), program)
        target = Target(path, export.precision, f"{params.model.name}-pruned")
        said = export_gguf(PRUNED, load_tokenizer(PRUNED), target, programs)
    summary("export", f"{EXPORT}: {said}, {EXPORT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
