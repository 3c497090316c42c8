"""Mixtures of experts: fused experts opened into linear modules, so that their channels can be seen and cut.

transformers keeps the weights of all experts of a layer in two tensors. `open_experts` replaces each such
block by one that computes the same with an nn.Linear for every projection, and `close_experts` puts the stock
block back, in the size that the config then says. Both only move weights: none changes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from secateurs.families.decoder import decoder_layers
from secateurs.families.layouts import family_of


class Expert(nn.Module):
    """One gated expert; its channels carry the routing weight, so they are 0 for tokens of other experts."""

    def __init__(self, gate_up: Tensor, down: Tensor, activation: Any) -> None:
        super().__init__()
        gate, up = gate_up.chunk(2)
        self.gate_proj, self.up_proj, self.down_proj = _linear(gate), _linear(up), _linear(down)
        self.activation = activation

    def forward(self, hidden: Tensor, routing: Tensor) -> Tensor:
        """hidden [batch, tokens, d], routing [batch, tokens] (0: not chosen) -> [batch, tokens, d].

        The gates run on the chosen tokens only. The routing weight goes in before the output projection,
        which being linear gives what the stock block gives by weighting its output.
        """
        # Mixtral's router gives float32 whatever the model's dtype.
        flat, weights = hidden.flatten(0, 1), routing.flatten().to(hidden.dtype)
        rows = weights.nonzero().squeeze(1)
        chosen = flat[rows]
        active = self.activation(self.gate_proj(chosen)) * self.up_proj(chosen) * weights[rows, None]
        channels = active.new_zeros(len(flat), active.shape[1]).index_copy(0, rows, active)
        result: Tensor = self.down_proj(channels.unflatten(0, hidden.shape[:2]))
        return result


class OpenExperts(nn.Module):
    """A block of routed experts with the stock router `gate` (hidden -> logits, weights, chosen experts)."""

    def __init__(self, stock: Any, config: Any) -> None:
        super().__init__()
        self.stock_class, self.gate = type(stock), stock.gate
        fused = zip(stock.experts.gate_up_proj, stock.experts.down_proj, strict=True)
        activation = ACT2FN[config.hidden_act]
        self.experts = nn.ModuleList([Expert(gate_up, down, activation) for gate_up, down in fused])

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [batch, tokens, d] -> [batch, tokens, d]."""
        _, weights, chosen = self.gate(hidden.flatten(0, 1))
        routing = torch.zeros(len(chosen), len(self.experts), dtype=weights.dtype, device=weights.device)
        routing = routing.scatter(1, chosen, weights).unflatten(0, hidden.shape[:2])
        result = torch.zeros_like(hidden)
        for number, expert in enumerate(self.experts):
            result = result + expert(hidden, routing[..., number])
        return result

    def closed(self, config: Any) -> nn.Module:
        """The stock block with these weights; `config` says their size."""
        with torch.device("meta"):
            stock: Any = self.stock_class(config)
        stock.gate = self.gate
        gate_up = [torch.cat([one.gate_proj.weight, one.up_proj.weight]) for one in self._experts()]
        stock.experts.gate_up_proj = _frozen(torch.stack(gate_up))
        stock.experts.down_proj = _frozen(torch.stack([one.down_proj.weight for one in self._experts()]))
        module: nn.Module = stock.train(self.training)
        return module

    def _experts(self) -> list[Any]:
        return list(self.experts)


@torch.no_grad()
def open_experts(model: PreTrainedModel) -> PreTrainedModel:
    """Open every block of fused experts, in place; a model without experts stays as it is.

    Weights are shared with the fused tensors, which go when nothing else holds them. Returns the model.
    """
    moe_block = family_of(model.config).mlp.moe_block
    if moe_block is not None:
        for layer in decoder_layers(model):
            block = layer.get_submodule(moe_block)
            if not isinstance(block, OpenExperts):
                layer.set_submodule(moe_block, OpenExperts(block, model.config).train(block.training))
    return model


@torch.no_grad()
def close_experts(model: PreTrainedModel) -> PreTrainedModel:
    """Put the stock blocks back, in place, layer by layer. Returns the model."""
    moe_block = family_of(model.config).mlp.moe_block
    if moe_block is not None:
        layers = decoder_layers(model)
        for layer, config in zip(layers, model.config.per_layer_config, strict=True):
            block = layer.get_submodule(moe_block)
            if isinstance(block, OpenExperts):
                layer.set_submodule(moe_block, block.closed(config))
    return model


def _linear(weight: Tensor) -> nn.Linear:
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    linear.weight = _frozen(weight)
    return linear


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach(), requires_grad=False)
