"""A checkpoint as a GGUF file of any precision, by the programs of llama.cpp that it takes."""

import os
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from secateurs.choose.weight_bytes import GGUF_PRECISIONS
from secateurs.gguf.gguf_file import Target, write_gguf
from secateurs.gguf.llama_quantize import K_QUANTS, SOURCE_PRECISION, quantise

PRECISIONS = (*GGUF_PRECISIONS, *K_QUANTS)


@dataclass(frozen=True)
class Programs:
    """What of llama.cpp an export runs: the converter's folder, and `llama-quantize` for K-quants."""

    converter: Path
    llama_quantize: str | None


def export_gguf(
    checkpoint: Path, tokenizer: PreTrainedTokenizerBase, target: Target, programs: Programs
) -> str:
    """Write `checkpoint` to `target`, at a precision of PRECISIONS; returns what the file is, in words.

    The words are the architecture, the precision, and what the file lacks. A K-quant is made of a float32
    file, which is deleted again. Raises InputError as write_gguf and quantise do.
    """
    if programs.llama_quantize is None:
        architecture, left_out = write_gguf(checkpoint, tokenizer, target, programs.converter)
        return ", ".join([architecture, target.precision, *(f"without {one}" for one in left_out)])
    # Named as what is being made, so that a later run clears it away after a kill.
    path = target.path.with_name(f".source.gguf.{os.getpid()}.tmp")
    source = Target(path, SOURCE_PRECISION, target.name)
    try:
        architecture, left_out = write_gguf(checkpoint, tokenizer, source, programs.converter)
        other = quantise(programs.llama_quantize, path, target.path, target.precision)
    finally:
        path.unlink(missing_ok=True)
    lacks = [f"without {one}" for one in left_out]
    return ", ".join([architecture, *lacks, target.precision, *([other] if other else [])])
