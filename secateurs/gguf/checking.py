"""A GGUF file read back: what it holds, against what it was meant to hold."""

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

from secateurs.choose.weight_bytes import tensor_bytes
from secateurs.errors import InputError, SettingError


def check_written(path: Path, meant: Mapping[str, str], precision: str) -> None:
    """Compare the tensors of a file with those that were meant, each a name and a key of FORMATS.

    Names, formats and sizes are those that were meant, and every weight is a finite number once it is read.
    Raises SettingError where a format cannot hold a weight, InputError where the file is something else than
    was meant.
    """
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    if set(found) != set(meant):
        raise InputError(
            f"{path}: was written with other tensors than were meant: {sorted(set(found) ^ set(meant))[:3]}"
        )
    for name, tensor in found.items():
        form = tensor.tensor_type.name.lower()
        if form != meant[name] or tensor.n_bytes != tensor_bytes([int(n) for n in tensor.shape][::-1], form):
            raise InputError(
                f"{path}: {name}: was written as {form}, {tensor.n_bytes} bytes; meant: {meant[name]}"
            )
    check_finite(path, precision)


def check_finite(path: Path, precision: str) -> None:
    """Raise SettingError where a weight of a file is not finite because its format has no number so large."""
    for tensor in gguf.GGUFReader(path).tensors:
        # Rows at a time: a vocabulary of 256,000 tokens would take gigabytes as float32.
        for rows in np.array_split(np.atleast_2d(tensor.data), -(-tensor.n_bytes // 2**26) or 1):
            with np.errstate(invalid="ignore"):
                finite = np.isfinite(dequantize(rows, tensor.tensor_type)).all()
            if not finite and tensor.tensor_type == gguf.GGMLQuantizationType.F32:
                raise InputError(
                    f"{tensor.name}: has weights that are no finite numbers; make the model anew"
                )
            if not finite:
                raise SettingError(
                    f"export.precision: {precision}: {tensor.name} has weights that are too large for "
                    f"{tensor.tensor_type.name.lower()} and would be infinite; "
                    "set export.precision: bf16 or f32"
                )
