"""The masks and scores of a round as files, and reading and writing of any safetensors file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from secateurs.kinds.names import parse_name, widths
from secateurs.kinds.registry import kinds
from stages.common.hashes import AGAIN, check_hash
from stages.common.stopwatch import spent

CHECKSUM = "sha256"


def write_masks(path: Path, masks: Mapping[str, Tensor]) -> None:
    """Write masks: `<layer>/<kind>` -> bool [units], True = kept."""
    write_tensors(path, {name: mask.bool().contiguous() for name, mask in masks.items()}, {})


def read_masks(path: Path) -> dict[str, Tensor]:
    """Read masks. Raises InputError for one that is not bool, or keeps nothing of what cannot go whole."""
    masks, _ = read_tensors(path)
    for name, mask in masks.items():
        whole = kinds()[parse_name(name).kind].pooled
        if mask.dtype != torch.bool or mask.dim() != 1 or not (whole or bool(mask.any())):
            raise InputError(f"{path}: {name}: expected a bool vector that keeps something")
    return masks


def check_kept(masks: Mapping[str, Tensor], history: Sequence[Mapping[str, Any]], directory: Path) -> None:
    """Raise InputError where masks keep other numbers of units than the history of their rounds says.

    masks: bool [units] by site; history: the rounds up to that of the masks; directory: where both are.
    """
    full = {name: torch.ones_like(mask) for name, mask in masks.items()}
    for kind in sorted({parse_name(name).kind for name in masks}):
        found, told = widths(masks, kind), widths(full, kind)
        if history and kind in history[-1]["kept"]:
            told = history[-1]["kept"][kind]
        if found != told:
            raise InputError(
                f"{directory}: masks.safetensors keeps {found} units of {kind}, history.json says {told}; "
                f"{AGAIN}"
            )


def write_scores(path: Path, scores: Mapping[str, Tensor]) -> None:
    """Write scores summed over the rounds so far: `<layer>/<kind>` -> float64 [units]."""
    write_tensors(path, {name: values.double().contiguous() for name, values in scores.items()}, {})


def read_scores(path: Path) -> dict[str, Tensor]:
    """Read summed scores. Raises InputError for scores that are not float64 or not finite."""
    scores, _ = read_tensors(path)
    for name, values in scores.items():
        if values.dtype != torch.float64 or values.dim() != 1 or not bool(torch.isfinite(values).all()):
            raise InputError(f"{path}: {name}: expected a finite float64 vector")
    return scores


@spent("write")
def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and metadata that JSON can hold, with a checksum; equal contents are equal bytes."""
    # One entry of metadata: safetensors writes several in an order that changes from run to run, and equal
    # contents must be equal bytes for DVC to see that nothing changed.
    with atomic(path) as temporary:
        written = metadata | {CHECKSUM: _checksum(tensors)}
        save_file(tensors, temporary, metadata={"secateurs": json.dumps(written)})


@spent("load")
def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what write_tensors wrote; InputError when the file is missing or is not as it was written."""
    check_hash(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = json.loads((file.metadata() or {}).get("secateurs", "{}"))
            written = metadata.pop(CHECKSUM, None)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run `dvc repro`") from None
    except (SafetensorError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: not a safetensors file of a stage: {error}; {AGAIN}") from None
    if written != _checksum(tensors):
        raise InputError(f"{path}: damaged: its tensors are not those that were written; {AGAIN}")
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of names, dtypes, shapes and bytes of tensors, in the order of their names."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        # A bool of another byte than 0 or 1 would pass for True: the bytes count, not the values.
        whole.update(tensor.contiguous().cpu().flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()
