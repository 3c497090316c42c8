"""Stage: the pruned checkpoint as a GGUF file for llama.cpp (optional pipeline)."""

import os
from pathlib import Path

from secateurs.files.atomic import atomic
from secateurs.gguf.converter import find_converter
from secateurs.gguf.llama_quantize import K_QUANTS, SOURCE_PRECISION, find_program, quantise
from secateurs.gguf.writing import Target, write_gguf
from stages.common.checkpoints import load_tokenizer
from stages.common.console import stage, summary
from stages.common.hashes import check_hashes
from stages.common.locks import hold
from stages.common.paths import EXPORT, PRUNED
from stages.params.file import Params, read_params


@stage
def main() -> None:
    """Write data/export/model.gguf from data/pruned."""
    params = read_params()
    hold(EXPORT)
    check_hashes(PRUNED)
    with atomic(EXPORT) as path:
        said = _write_k_quants(params, path) if params.export.precision in K_QUANTS else _write(params, path)
    summary("export", f"{EXPORT}: {said}, {EXPORT.stat().st_size:,} bytes")


def _write(params: Params, path: Path, precision: str | None = None) -> str:
    target = Target(path, precision or params.export.precision, f"{params.model.name}-pruned")
    converter = find_converter(params.export.converter)
    architecture, left_out = write_gguf(PRUNED, load_tokenizer(PRUNED), target, converter)
    return ", ".join(
        [
            architecture,
            *([target.precision] if precision is None else []),
            *(f"without {one}" for one in left_out),
        ]
    )


def _write_k_quants(params: Params, path: Path) -> str:
    precision, program = params.export.precision, find_program(params.export.llama_quantize)
    # Named as what is being made, so that a later run clears it away after a kill.
    source = path.with_name(f".source.gguf.{os.getpid()}.tmp")
    try:
        written = _write(params, source, SOURCE_PRECISION)
        other = quantise(program, source, path, precision)
    finally:
        source.unlink(missing_ok=True)
    return ", ".join([written, precision, *([other] if other else [])])


if __name__ == "__main__":
    main()
