"""A checkpoint's files read as such, without transformers, and compared with the model that they are of."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.errors import InputError

# What the families call the head in their files.
HEADS = frozenset({"lm_head.weight", "embed_out.weight"})


def compare_files(model: PreTrainedModel, directory: Path, shown: object) -> None:
    """Compare a saved checkpoint with the model that it was made of, in host memory.

    Tensors that have the same name in file and memory are equal to the bit in the model's dtype, and there
    is such a one; the config ties embeddings and head exactly where the files hold no head of its own. Raises
    InputError, which calls the checkpoint `shown`, where that is not so.
    """
    held, compared, heads = model.state_dict(), 0, []
    for name, tensor in tensors(directory):
        heads += [tensor] if name in HEADS else []
        if name in held:
            compared += 1
            if not torch.equal(tensor.to(held[name].dtype), held[name].cpu()):
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


def tensors(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of all safetensors files of a checkpoint."""
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                yield name, file.get_tensor(name)
