"""Torch-Pruning, the installed program, as its example for language models uses it.

That path takes the same ratio from the hidden size, the mlp and the query heads of every layer, by group
magnitude, without text. Under grouped queries Torch-Pruning takes query heads evenly out of every KV group
and leaves keys and values whole.
"""

import importlib.metadata
import math
from typing import Any

import torch
import torch_pruning
from transformers import PreTrainedModel

from lab.baselines.programs.handover import (
    Request,
    decoder_size,
    hand_over,
    load_dense,
    read_request,
    save_stock,
)

ROUND_TO = 4


def main() -> None:
    """Prune at the ratio that comes nearest to the share, among those whose config transformers accepts."""
    request = read_request()
    model = load_dense(request)
    ratio = nearest_ratio(model, request)
    prune(model, ratio)
    version = f"Torch-Pruning {importlib.metadata.version('torch-pruning')}"
    setting = f"BasePruner, GroupMagnitudeImportance, pruning_ratio=head_pruning_ratio={ratio}"
    hand_over(request, model, version, setting, save_stock)


def prune(model: PreTrainedModel, ratio: float) -> None:
    """Cut hidden size, heads and mlp in place by `ratio` and write the sizes into the config."""
    config: Any = model.config
    layers: Any = model.base_model.layers
    heads = {}
    for layer in layers:
        attention = layer.self_attn
        heads[attention.q_proj] = config.num_attention_heads
        heads[attention.k_proj] = heads[attention.v_proj] = config.num_key_value_heads
    head: Any = model.get_output_embeddings()
    # Its search for groups does not end with transformers' cache in the graph, and it does not see through
    # the fused attention kernel to how query heads share keys.
    usual = config._attn_implementation
    config.use_cache = False
    model.set_attn_implementation("eager")
    pruner = torch_pruning.pruner.BasePruner(
        model,
        example_inputs=torch.arange(8, device=model.device)[None],
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2, group_reduction="mean"),
        global_pruning=False,
        output_transform=lambda output: output.logits,
        pruning_ratio=ratio,
        ignored_layers=[head],
        num_heads=heads,
        prune_num_heads=True,
        prune_head_dims=False,
        head_pruning_ratio=ratio,
        round_to=ROUND_TO,
    )
    for group in pruner.step(interactive=True):
        group.prune()
    config.use_cache = True
    model.set_attn_implementation(usual)
    config.head_dim = layers[0].self_attn.head_dim
    config.hidden_size = head.in_features
    config.intermediate_size = layers[0].mlp.gate_proj.out_features
    config.num_attention_heads = layers[0].self_attn.q_proj.out_features // config.head_dim
    config.num_key_value_heads = layers[0].self_attn.k_proj.out_features // config.head_dim
    for layer in layers:
        layer.self_attn.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
    # Both ends lost the same features of one shared matrix, as two copies.
    model.tie_weights()


def nearest_ratio(model: PreTrainedModel, request: Request) -> float:
    """The pruning ratio, in steps of 0.001, whose result is nearest to the share.

    Only ratios after which the heads divide the hidden size: Llama's config refuses others.
    """
    config: Any = model.config
    dense = decoder_size(model)
    layers: Any = model.base_model.layers
    head_dim, groups = layers[0].self_attn.head_dim, config.num_key_value_heads
    found = []
    for step in range(1, 900):
        ratio = step / 1000
        hidden = _rounded(config.hidden_size, ratio)
        width = _rounded(config.intermediate_size, ratio)
        gone = math.ceil(math.ceil(ratio * config.num_attention_heads) / groups) * groups
        heads = config.num_attention_heads - gone
        if heads < groups or hidden < 1 or hidden % heads:
            continue
        layer = hidden * head_dim * (2 * heads + 2 * groups) + 3 * hidden * width + 2 * hidden
        found.append((abs(1 - len(layers) * layer / dense - request.share), ratio))
    if not found:
        raise SystemExit("no pruning ratio leaves a hidden size that the remaining heads divide")
    return min(found)[1]


def _rounded(size: int, ratio: float) -> int:
    kept = int(size * (1 - ratio))
    return kept - kept % ROUND_TO


if __name__ == "__main__":
    main()
