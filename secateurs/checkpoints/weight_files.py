"""Which files of a model's folder hold the weights that transformers reads, and what else lies beside them.

Of several formats it reads one, the first of its order that is there, and passes over the rest in silence.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from safetensors import SafetensorError, safe_open

from secateurs.checkpoints.raw_config import check_inside
from secateurs.errors import InputError
from secateurs.files.decoding import decode, parse_json

# Only folders that hold the weights twice are compared; torch, which takes a second, is for those.
if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
# Mistral's repositories hold the weights once more, in a form of its own.
_MISTRALS = "consolidated.safetensors"
# Of each format: the file with all weights, the index of several files, and which files are of the format.
_FORMATS = ((WEIGHTS, INDEX, "*.safetensors"), (PICKLE, PICKLE_INDEX, "pytorch_model*.bin"))
# What safetensors calls the numbers that weights may be.
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
# What other programs read: TensorFlow, Flax, Rust, ONNX, Meta's own, llama.cpp.
_OTHERS = frozenset({".h5", ".msgpack", ".ot", ".onnx", ".pth", ".gguf"})


def check_parts(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise InputError where it is not plain which weights a folder holds, or some that it names are gone.

    So it is with two sets in one format, and with files of the format read that nothing names.
    """
    named = config.get("transformers_weights")
    for whole, index, _ in _FORMATS:
        if named is None and (folder / whole).exists() and (folder / index).exists():
            raise InputError(
                f"{whole} and {index} are both there, two sets of weights, of which only the first would be "
                "read; take one away"
            )
    if isinstance(named, str):
        check_inside("config.json: transformers_weights", named)
    main, read = _main(folder, named), _read(folder, named)
    if named is not None and not (folder / main).is_file():
        raise InputError(f"config.json: transformers_weights: {named}: not there; fetch it again")
    gone = sorted(name for name in read - {main} if not (folder / name).is_file())
    if gone:
        raise InputError(f"{main}: names {gone[0]}, which is not there; fetch it again")
    whole, index, pattern = _format(folder)
    unread = sorted({path.name for path in folder.glob(pattern)} - read - {_MISTRALS})
    if unread:
        raise InputError(
            f"{unread[0]}: would not be read, because transformers reads {named or whole}, or the files that "
            f"{index} names; name it there, or take it away"
        )
    if not (folder / main).is_file():
        raise InputError("it holds no weights; put model.safetensors beside the config")
    tensors = [_check_header(folder / name) for name in sorted(read) if name.endswith(".safetensors")]
    if tensors:
        _check_layers(config, sum(tensors))


def _check_layers(config: Mapping[str, Any], tensors: int) -> None:
    """Raise InputError for more layers than there are tensors: to make a model of them takes hours."""
    text = config.get("text_config")
    for prefix, one in (("", config), ("text_config.", text if isinstance(text, Mapping) else {})):
        for key in ("num_hidden_layers", "n_layer", "num_layers"):
            layers = one.get(key)
            if isinstance(layers, int) and layers > tensors:
                raise InputError(
                    f"config.json: {prefix}{key}: {layers}: the weights have {tensors} tensors, less than "
                    "one a layer; correct it"
                )


def _check_header(path: Path) -> int:
    """How many tensors a file has.

    Raises InputError where it is cut short or damaged, or holds weights that are no numbers to prune.

    Integers would be read as the numbers that they are not: what scales them is elsewhere, or nowhere.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            kinds = {name: file.get_slice(name).get_dtype() for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path.name}: damaged ({error}); fetch it again") from None
    for name, kind in kinds.items():
        # Buffers, which are no weights, may be what they like.
        if name.endswith(".weight") and kind not in _FLOATS:
            raise InputError(
                f"{path.name}: {name}: {kind}, no floating-point numbers, as in quantised weights, which "
                "cannot be cut; give the checkpoint in bfloat16, float16 or float32"
            )
    return len(names)


def is_read(folder: Path, name: str) -> bool:
    """Whether a file is none of those that only other programs read, or that are passed over here."""
    passed_over = _format(folder)[0] == WEIGHTS and Path(name).match(_FORMATS[1][2])
    return not passed_over and name != _MISTRALS and Path(name).suffix not in _OTHERS


def compare_sets(folder: Path, named: str | None) -> None:
    """Compare pickled weights with the safetensors beside them, which alone are read, and print the outcome.

    Repositories of the hub often hold the same weights in both. Raises InputError where they differ, because
    nothing says which are meant. The files must have passed check_parts; named: `transformers_weights` of
    the config.
    """
    pickles = sorted(folder.glob(_FORMATS[1][2]))
    if _format(folder)[0] != WEIGHTS or not pickles:
        return
    beside = ", ".join(path.name for path in pickles[:3]) + (", …" if len(pickles) > 3 else "")
    main = _main(folder, named)
    read = f"model: {main} is read; {beside} beside it"
    compared = 0
    try:
        for name, one, other in _pairs(folder, _read(folder, named), pickles):
            compared += 1
            if one.shape != other.shape or not _same(one, other):
                raise InputError(
                    f"{beside}: holds another {name} than {main}: two sets of weights, of "
                    "which only the safetensors would be read; take one away"
                )
    except InputError:
        raise
    # Whatever is wrong with a file that is not read is no reason to refuse the one that is.
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        why = "it holds more than weights" if isinstance(error, pickle.UnpicklingError) else str(error)
        click.echo(f"{read} cannot be compared with it: {why.splitlines()[0]}", err=True)
        return
    said = "holds the same weights" if compared else "names its weights otherwise and was not compared"
    click.echo(f"{read} {said}", err=True)


def _pairs(folder: Path, read: set[str], pickles: list[Path]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, safetensors' and pickle's tensor of those that both have."""
    import torch

    where: dict[str, str] = {}
    for path in sorted(read):
        with safe_open(folder / path, framework="pt") as file:
            where |= dict.fromkeys(file.keys(), path)
    for pickled in pickles:
        # Not all in memory at once; weights alone, because a pickle can hold code.
        tensors = torch.load(pickled, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(tensors, dict):
            raise ValueError(f"{pickled.name} holds a {type(tensors).__name__}")
        for name in sorted(name for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)):
            if name in where:
                with safe_open(folder / where[name], framework="pt") as file:
                    yield name, file.get_tensor(name), tensors[name]


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal once both have the smaller dtype: some repositories round one of them."""
    import torch

    dtype = min(one.dtype, other.dtype, key=lambda dtype: dtype.itemsize)
    return torch.equal(one.to(dtype), other.to(dtype))


def _format(folder: Path) -> tuple[str, str, str]:
    """The format that is read, as _FORMATS has it."""
    for one in _FORMATS:
        if any((folder / name).exists() for name in one[:2]):
            return one
    return _FORMATS[0]


def _main(folder: Path, named: Any) -> str:
    """The file that transformers opens first."""
    whole, index, _ = _format(folder)
    return named if isinstance(named, str) else whole if (folder / whole).exists() else index


def _read(folder: Path, named: Any) -> set[str]:
    """The files that transformers reads weights from; named: `transformers_weights` of the config."""
    main = _main(folder, named)
    if not main.endswith(".index.json") or not (folder / main).is_file():
        return {main}
    index = parse_json(main, decode(main, (folder / main).read_bytes()))
    parts = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(file, str) for file in parts.values()):
        raise InputError(f"{main}: no weight_map of names and files; fetch it again")
    for part in parts.values():
        check_inside(f"{main}: weight_map", part)
    return set(parts.values())
