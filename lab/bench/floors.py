"""The least time that a piece of work can take on a machine, by what it counts and what the machine reaches.

    floor = sum over kinds of product of operations / ceiling of that kind  +  bytes / memory bandwidth

Products and passes over activations follow one another on a device, so their times add up. The bytes are
those of the passes between products if each is one kernel that reads its inputs and writes its results once.
The ceilings are measured in the same run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.benchmark import Timer
from transformers import PreTrainedModel

from lab.bench.clock import backward_operations, forward_operations, matmul_ceiling
from lab.bench.shapes import head_weights
from secateurs.devices.precision import tensor_cores
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.decoder import decoder_layers, decoder_parameters
from secateurs.kinds.heads import head_dim


@dataclass(frozen=True)
class Ceilings:
    """What a machine reaches: operations per second of products by precision, and bytes per second.

    model: in the model's dtype. statistics: in float32 (TF32 on CUDA). solve: in float64. memory: read and
    written. host: from pinned host memory to the device; infinite on a CPU.
    """

    model: float
    statistics: float
    solve: float
    memory: float
    host: float


def ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measured on large matrices and copies, each the median of a second's runs."""
    with tensor_cores():
        statistics = matmul_ceiling(device, torch.float32)
    return Ceilings(
        matmul_ceiling(device, dtype),
        statistics,
        matmul_ceiling(device, torch.float64),
        _memory(device),
        _host(device),
    )


def forward_bytes(model: PreTrainedModel, tokens: int) -> float:
    """Bytes that the passes between the products of a forward pass read and write, in all decoder layers.

    For each token: two norms (d in, d out), two residual additions (2 d in, d out), rotation of queries and
    keys (q + k in and out), the gate (2 m in, m out).
    """
    d, m, rotated, size = _sizes(model)
    return tokens * len(decoder_layers(model)) * size * (10.0 * d + 2 * rotated + 3 * m)


def backward_bytes(model: PreTrainedModel, tokens: int) -> float:
    """The same of the backward pass with frozen weights, and of reading what a Fisher statistic reads.

    Norms: input and gradient in, gradient out. Additions: two gradients in, one out. Rotation as forward.
    Gate: both inputs and the gradient in, two gradients out. Statistic: activations and their gradients.
    """
    d, m, rotated, size = _sizes(model)
    return tokens * len(decoder_layers(model)) * size * (12.0 * d + 2 * rotated + 5 * m + 2 * m)


def fisher_floor(model: PreTrainedModel, sequences: int, tokens: int, machine: Ceilings) -> float:
    """Seconds of a Fisher round over `sequences` of `tokens`: forward and backward once."""
    count = sequences * tokens
    moved = forward_bytes(model, count) + backward_bytes(model, count)
    return count * backward_operations(model, tokens) / machine.model + moved / machine.memory


def surgery_floor(model: PreTrainedModel, kept: int, sequences: int, tokens: int, machine: Ceilings) -> float:
    """Seconds of residual healing of the mlp of every layer, `kept` channels each, over the same text.

    Two streams through the dense layers; the healed projection on the pruned stream (2 d k a token); the
    lower triangle of the Gram matrix (k^2 a token) in the model's dtype and its cross with the targets
    (2 d k) in float32; factor and solve (k^3 / 3 + 2 k^2 d) in float64. The weights go to the device and back
    meanwhile, so that they count only where they take longer than all that.
    """
    count, layers = sequences * tokens, len(decoder_layers(model))
    d, dtype = model.config.hidden_size, model.dtype
    streams = 2 * count * forward_operations(model, tokens, head=0.0)
    wide = 2.0 * count * layers * d * kept
    gram = 1.0 * count * layers * kept**2
    solve = layers * (kept**3 / 3 + 2.0 * kept**2 * d)
    work = (streams + wide + gram) / machine.model + wide / machine.statistics + solve / machine.solve
    copies = 2 * decoder_parameters(model) * dtype.itemsize / machine.host
    slower: float = max(work + 2 * forward_bytes(model, count) / machine.memory, copies)
    return slower


def reading_floor(model: PreTrainedModel, rows: Sequence[int], asked: int, machine: Ceilings) -> float:
    """Seconds of likelihoods: rows of so many tokens are read once, the head runs at the `asked` tokens."""
    products = sum(count * forward_operations(model, count, head=0.0) for count in rows)
    products += 2.0 * asked * head_weights(model)
    return products / machine.model + forward_bytes(model, sum(rows)) / machine.memory


def writing_floor(
    model: PreTrainedModel, prompts: Sequence[int], written: Sequence[int], machine: Ceilings
) -> float:
    """Seconds of writing so many tokens after prompts of so many, all rows side by side.

    The prompts are read once. A step multiplies one token of each row that still writes by all weights; it
    takes as long as these products or as reading the weights, whichever is longer. Then the keys and values
    of all tokens before are read: 2 * kv heads * head * layers values for each of them.
    """
    read = reading_floor(model, prompts, len(prompts), machine)
    size, weights = model.dtype.itemsize, macs_per_token(model)
    kept = 2.0 * model.config.num_key_value_heads * head_dim(model.config) * len(decoder_layers(model)) * size
    steps = 0.0
    # The first token comes of reading the prompt.
    for step in range(1, max(written)):
        going = [prompt for prompt, count in zip(prompts, written, strict=True) if count > step]
        products = max(2.0 * len(going) * weights / machine.model, weights * size / machine.memory)
        steps += products + (sum(going) + len(going) * step) * kept / machine.memory
    return read + steps


def _sizes(model: PreTrainedModel) -> tuple[int, int, int, int]:
    """Hidden size, mlp width, queries and keys together, bytes of a value."""
    config = model.config
    rotated = head_dim(config) * (config.num_attention_heads + config.num_key_value_heads)
    return config.hidden_size, config.intermediate_size, rotated, model.dtype.itemsize


def _memory(device: torch.device) -> float:
    values = torch.empty(2**28 if device.type == "cuda" else 2**25, device=device)
    copy = torch.empty_like(values)
    timer = Timer("copy.copy_(values)", globals={"values": values, "copy": copy})
    return 2.0 * values.nbytes / timer.blocked_autorange(min_run_time=1.0).median


def _host(device: torch.device) -> float:
    if device.type != "cuda":
        return float("inf")
    values = torch.empty(2**28, pin_memory=True)
    copy = torch.empty_like(values, device=device)
    timer = Timer("copy.copy_(values)", globals={"values": values, "copy": copy})
    return values.nbytes / timer.blocked_autorange(min_run_time=1.0).median
