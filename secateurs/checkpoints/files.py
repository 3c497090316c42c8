"""A checkpoint's files read as such, without transformers, and compared with the model that they are of."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.errors import InputError

# What the families call the head in their files, after the names of what holds it.
HEADS = frozenset({"lm_head.weight", "embed_out.weight"})


def compare_files(model: PreTrainedModel, directory: Path, shown: object) -> None:
    """Compare a saved checkpoint with the model that it was made of, in host memory.

    Tensors that have the same name in file and memory are equal to the bit in the model's dtype, and there
    is such a one; the config ties embeddings and head exactly where the files hold no head of its own. Raises
    InputError, which calls the checkpoint `shown`, where that is not so.
    """
    held, compared, heads = model.state_dict(), 0, []
    # Some classes write other names than they hold, such as LLaVA's the older ones; then all differ.
    written = [name for file in _opened(directory) for name in file.keys()]  # noqa: SIM118 - not a mapping
    names = {name: name for name in written if name in held} or _by_their_ends(written, list(held))
    for name, tensor in tensors(directory):
        heads += [tensor] if ".".join(name.split(".")[-2:]) in HEADS else []
        if name in names:
            compared += 1
            there = held[names[name]]
            if not torch.equal(tensor.to(there.dtype), there.cpu()):
                raise InputError(f"{shown}: {name}: the file holds something else than the model in memory")
    if not compared:
        raise InputError(f"{shown}: none of its tensors has the name of one in memory")
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    tied = config.get("tie_word_embeddings", model.config.tie_word_embeddings)
    embeddings: Any = model.get_input_embeddings()
    same = [torch.equal(head.to(embeddings.weight.dtype), embeddings.weight.cpu()) for head in heads]
    if tied and not all(same):
        raise InputError(f"{shown}: config.json ties the head to the embeddings; the file has another head")
    if not tied and model.get_output_embeddings() is not None and not heads:
        raise InputError(f"{shown}: config.json has tie_word_embeddings: false, but the file has no head")


def _by_their_ends(written: Sequence[str], held: Sequence[str]) -> dict[str, str]:
    """The names in memory of those in files: the one that shares the longest end, where no other does."""
    found = {}
    for name in written:
        parts = name.split(".")
        for first in range(1, len(parts)):
            ends = [one for one in held if f".{one}".endswith("." + ".".join(parts[first:]))]
            if ends:
                if len(ends) == 1:
                    found[name] = ends[0]
                break
    return found


def tensors(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of all safetensors files of a checkpoint."""
    for file in _opened(directory):
        for name in file.keys():  # noqa: SIM118 - not a mapping
            yield name, file.get_tensor(name)


def _opened(directory: Path) -> Iterator[Any]:
    """The safetensors files of a checkpoint, one after the other, by name."""
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            yield file
