"""The small modelling file that a checkpoint needs whose layers differ in width."""

from pathlib import Path

from transformers import PreTrainedModel

from stages.errors import InputError
from stages.pruning.families import sites_of

# The stock class builds every layer at the largest size; this one then replaces what is smaller. It only
# uses nn.Linear's public sizes, so it also works under the meta device that from_pretrained builds on.
TEMPLATE = '''\
"""{base} whose decoder layers differ in width: `mlp_widths` and `kv_groups` in the config, one a layer."""

from torch import nn
from transformers import {base}


def _linear(old, inputs, outputs):
    return nn.Linear(
        inputs, outputs, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype
    )


class {name}({base}):
    def __init__(self, config):
        super().__init__(config)
        mlp_widths = getattr(config, "mlp_widths", None)
        kv_groups = getattr(config, "kv_groups", None)
        hidden = config.hidden_size
        for index, layer in enumerate(self.model.layers):
            if mlp_widths:
                mlp, width = layer.mlp, mlp_widths[index]
                mlp.gate_proj = _linear(mlp.gate_proj, hidden, width)
                mlp.up_proj = _linear(mlp.up_proj, hidden, width)
                mlp.down_proj = _linear(mlp.down_proj, width, hidden)
            if kv_groups:
                attention = layer.self_attn
                keys = kv_groups[index] * config.head_dim
                queries = keys * (config.num_attention_heads // config.num_key_value_heads)
                attention.q_proj = _linear(attention.q_proj, hidden, queries)
                attention.k_proj = _linear(attention.k_proj, hidden, keys)
                attention.v_proj = _linear(attention.v_proj, hidden, keys)
                attention.o_proj = _linear(attention.o_proj, queries, hidden)
        self.post_init()
'''
STOCK_NAMES = {
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
}


def ship_modelling_file(model: PreTrainedModel, directory: Path) -> None:
    """Where layers differ in width, write the modelling file into `directory` and name it in the config.

    With equal widths nothing is written: the stock class loads the checkpoint. Raises InputError for a
    family whose modules the file does not know.
    """
    config = model.config
    if not hasattr(config, "mlp_widths") and not hasattr(config, "kv_groups"):
        return
    names = {part.module for site in sites_of(model) for part in (*site.inputs, site.output)}
    if not names <= STOCK_NAMES:
        raise InputError(
            f"prune.widths: per_layer: no modelling file is written for {config.model_type}; use uniform"
        )
    base = type(model).__name__
    name = f"Pruned{base}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "modeling_pruned.py").write_text(TEMPLATE.format(base=base, name=name), encoding="utf-8")
    config.auto_map = {"AutoModelForCausalLM": f"modeling_pruned.{name}"}
