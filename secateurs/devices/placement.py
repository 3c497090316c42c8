"""Where a stage computes: the device that params name, a model spread over several, a group of processes."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from accelerate import cpu_offload, dispatch_model, infer_auto_device_map
from accelerate.hooks import remove_hook_from_submodules
from accelerate.utils import get_balanced_memory
from torch import nn
from transformers import PreTrainedModel

from secateurs.errors import SettingError
from secateurs.families.decoder import decoder_layers

SHARDED = "sharded"


def resolve_device(name: str) -> torch.device:
    """The device that `compute.device` names; `auto` is the first of CUDA, MPS and the CPU that the machine
    has.

    Under torchrun each process has the accelerator of its own number. For `sharded` it is the first one.
    Raises InputError for a device that this machine does not have.
    """
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if name == SHARDED and started_processes() > 1:
        raise SettingError(
            f"compute.device: {SHARDED}: one model over all devices leaves none for "
            f"{started_processes()} processes; use auto, or compute.launch: python"
        )
    if name in {"auto", "cuda", SHARDED} and cuda:
        number = int(os.environ.get("LOCAL_RANK", "0"))
        if number >= cuda:
            raise SettingError(
                f"compute.launch: {started_processes()} processes, but this machine has {cuda} CUDA devices"
            )
        return torch.device("cuda", number)
    if name == "auto":
        return torch.device("mps" if mps else "cpu")
    device = torch.device("cpu" if name == SHARDED else name)
    present = {"cuda": (device.index or 0) < cuda, "mps": mps, "cpu": name != SHARDED}
    if not present[device.type]:
        raise SettingError(
            f"compute.device: {name}: not on this machine ({cuda} CUDA devices, "
            f"{'MPS' if mps else 'no MPS'}); use auto or cpu"
        )
    return device


def place(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """Move a model from host memory to the device that `compute.device` names.

    `sharded` lets accelerate spread the decoder layers over all accelerators, in order, and leave in host
    memory what they cannot hold. Raises InputError where both together are too small.
    """
    device = resolve_device(name)
    if name != SHARDED:
        moved: Any = model  # transformers' types leave out the argument of `to`
        placed: PreTrainedModel = moved.to(device)
        return placed
    whole = [type(decoder_layers(model)[0]).__name__]
    memory = get_balanced_memory(model, no_split_module_classes=whole)
    device_map = infer_auto_device_map(model, max_memory=memory, no_split_module_classes=whole)
    if "disk" in device_map.values():
        raise SettingError(
            f"compute.device: {SHARDED}: the model does not fit in the accelerators and host "
            "memory together; use a smaller compute.dtype or a larger machine"
        )
    spread: PreTrainedModel = dispatch_model(model, device_map)
    return spread


def copied(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """A copy of a model in host memory, on the device that `compute.device` names.

    Weights go to the device at once, without another copy in host memory. For `sharded` the copy is in host
    memory, where it can still be cut before `place` spreads it.
    """
    device = torch.device("cpu") if name == SHARDED else resolve_device(name)
    known: dict[int, Any] = {}
    for weight in model.parameters():
        # Tied weights are one object, and stay one.
        there = weight.detach().to(device, copy=True)
        known[id(weight)] = nn.Parameter(there, requires_grad=weight.requires_grad)
    for buffer in model.buffers():
        known[id(buffer)] = buffer.to(device, copy=True)
    return copy.deepcopy(model, known)


@contextmanager
def passing_through(model: PreTrainedModel, device: torch.device) -> Iterator[PreTrainedModel]:
    """For a forward pass: weights stay in host memory and are copied to `device` module by module."""
    if device.type == "cpu":
        yield model
        return
    cpu_offload(model, device)
    try:
        yield model
    finally:
        remove_hook_from_submodules(model)
        model.tie_weights()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """In the context this process is in the group that torchrun started; without torchrun nothing happens."""
    if started_processes() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # What processes exchange goes before the work that it goes on beside.
        os.environ.setdefault("TORCH_NCCL_HIGH_PRIORITY", "1")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def started_processes() -> int:
    """How many processes torchrun started, of which this is one; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))
