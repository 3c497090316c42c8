"""A checkpoint as one GGUF file, in a form that llama.cpp loads as an architecture of its own.

Layers of one size are written by llama.cpp's own converter, layers of several sizes as `deci`; both are then
stored in the precision that is asked for, with the tokenizer.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from transformers import AutoConfig, PreTrainedTokenizerBase

from secateurs.checkpoints.gguf_rope import FREQUENCIES
from secateurs.choose.weight_bytes import GGUF_PRECISIONS, stored_format
from secateurs.gguf import deci
from secateurs.gguf.checking import check_written
from secateurs.gguf.converter import COMPARED, check_converted, convert
from secateurs.gguf.copying import copy_metadata
from secateurs.gguf.refusals import check_convertible
from secateurs.gguf.tokenizer_metadata import write_tokenizer

# By precision: what llama.cpp calls the file.
FILE_TYPES = {
    name: gguf.LlamaFileType["ALL_F32" if name == "f32" else f"MOSTLY_{name.upper()}"]
    for name in GGUF_PRECISIONS
}
VOCABULARY = frozenset({"token_embd.weight", "output.weight"})
# Small matrices that llama.cpp itself keeps in 32 bits: which expert, and short convolutions.
WHOLE_MATRICES = ("ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight", "ssm_conv1d.weight", "conv.weight")


@dataclass(frozen=True)
class Target:
    """Where a file goes, in which precision (a key of GGUF_PRECISIONS), and the name it tells."""

    path: Path
    precision: str
    name: str


def write_gguf(
    checkpoint: Path, tokenizer: PreTrainedTokenizerBase, target: Target, converter: Path
) -> tuple[str, list[str]]:
    """Write `checkpoint` (a directory of safetensors); returns llama.cpp's architecture and what is left out.

    stored_format says what each tensor is stored in. Tensors pass through memory one at a time. converter:
    the folder of llama.cpp's, for layers of one size. Raises InputError for what GGUF has no place for, and
    for weights that the precision cannot hold.
    """
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    if deci.needs_deci(config):
        deci.check_deci(config)
        writer = start(target, deci.NAME)
        deci.add_sizes(writer, config)
        return deci.NAME, store(writer, tokenizer, target, deci.tensors_of(checkpoint, config))
    check_convertible(config)
    # Named as what is being made, so that a later run clears it away after a kill.
    converted = target.path.with_name(f".converted.gguf.{os.getpid()}.tmp")
    try:
        reader = convert(converter, checkpoint, converted)
        check_converted(reader, config)
        architecture = str(reader.fields["general.architecture"].contents())
        writer = start(target, architecture)
        own = ("general.name", "general.file_type", "general.quantization_version")
        copy_metadata(reader, writer, lambda key: key not in own and not key.startswith("tokenizer."))
        tensors = ((tensor.name, np.array(tensor.data)) for tensor in reader.tensors)
        left_out = store(writer, tokenizer, target, tensors)
        if config.model_type not in COMPARED:
            left_out.append("a comparison of this family with llama.cpp")
        return architecture, left_out
    finally:
        converted.unlink(missing_ok=True)


def start(target: Target, architecture: str) -> gguf.GGUFWriter:
    """A writer of a file that tells its name, precision and architecture, and nothing yet of a model."""
    writer = gguf.GGUFWriter(target.path, architecture, use_temp_file=True)
    writer.add_name(target.name)
    writer.add_file_type(FILE_TYPES[target.precision])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    return writer


def store(
    writer: gguf.GGUFWriter,
    tokenizer: PreTrainedTokenizerBase,
    target: Target,
    tensors: Iterator[tuple[str, np.ndarray]],
) -> list[str]:
    """Write float32 tensors, each in its format, and the tokenizer; read back what was written.

    Returns what write_tokenizer left out. Raises as write_gguf.
    """
    meant, rows = {}, 0
    for name, tensor in tensors:
        formats = GGUF_PRECISIONS[target.precision]
        small = name == FREQUENCIES or name.endswith(WHOLE_MATRICES)
        form = stored_format(tensor.shape, formats, name in VOCABULARY, small)
        kind = gguf.GGMLQuantizationType[form.upper()]
        # Weights beyond the format's largest number become infinite, which check_written refuses.
        with np.errstate(over="ignore", invalid="ignore"):
            writer.add_tensor(name, gguf.quants.quantize(tensor.astype(np.float32), kind), raw_dtype=kind)
        meant[name] = form
        rows = tensor.shape[0] if name == "token_embd.weight" else rows
    left_out = write_tokenizer(writer, tokenizer, rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_written(target.path, meant, target.precision)
    return left_out
