"""Two models over several processes: FSDP2 of torch gives each a part of every decoder layer."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from secateurs.devices.parallel import processes
from secateurs.families.decoder import decoder_layers
from secateurs.inference.head import body_of


def sharded(model: PreTrainedModel, device: torch.device, dtype: torch.dtype | None) -> PreTrainedModel:
    """The model, from host memory, over the processes of the group: each holds a part on its `device`.

    Of the decoder layers and what else is outside of embeddings and head every process has one of n parts,
    and gathers a layer when it is at work, in `dtype` (None: its own). Embeddings and all of the head are
    whole in each, because the head runs by itself, chunk by chunk. Without a group the model goes to the
    device as it is.
    """
    moved: Any = model  # transformers' types leave out the arguments of `to`
    if processes() == 1:
        alone: PreTrainedModel = moved.to(device)
        return alone
    mesh = init_device_mesh(device.type, (processes(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=dtype and torch.float32)
    body = body_of(model)
    # Some families have layers between body and output embeddings.
    ends = (model.get_input_embeddings(), *(module for module in model.children() if module is not body))
    for end in ends:
        end.to(device)
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    left = {weight for end in ends for weight in end.parameters()}
    # In parts again after each run, so that the model's parameters always are what is trained.
    fully_shard(body, mesh=mesh, mp_policy=policy, ignored_params=left, reshard_after_forward=True)
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)
    return model


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which every process has a part, whole in each of them; another one as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, weight: Tensor) -> Tensor:
    """A whole tensor, where `weight` is: as parts of the same processes where that has parts."""
    if isinstance(weight, DTensor):
        return distribute_tensor(tensor.to(weight.to_local().device), weight.device_mesh, weight.placements)
    return tensor.to(weight.device)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """All parameters of a model by name, whole, in host memory; every process must call it."""
    return {name: whole(weight.detach()).cpu() for name, weight in model.named_parameters()}


def agreed(value: Any) -> Any:
    """What the first process has, in all of them."""
    if processes() == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]
