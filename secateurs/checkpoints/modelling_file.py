"""The modelling file of a checkpoint whose layers differ in size: how it is written, and known again."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

import transformers

from secateurs.families.family import LINEAR_SIZES

MODELLING_FILE = "modeling_pruned.py"

# A stock class builds every layer from the config's own (dense) numbers; the mixin then replaces each layer
# by one built from a copy of the config with that layer's numbers. Under from_pretrained both happen without
# memory. `per_layer_config` means something to late versions of transformers only; to others it is any other
# entry. The model without a head has a class too, because vLLM's Transformers backend builds that one.
TEMPLATE = '''\
"""{base} whose decoder layers differ in size: `per_layer_config` in the config says in what."""

import copy

{imports}
from transformers import {base}, {body}


{stand_ins}class OwnSizes:
    @classmethod
    def from_pretrained(cls, *arguments, output_loading_info=False, **options):
        model, report = super().from_pretrained(*arguments, output_loading_info=True, **options)
        # Versions differ in the names of some weights, and make up random ones for those that they miss.
        missing = sorted(report["missing_keys"])
        if missing:
            raise RuntimeError(
                f"transformers {{transformers.__version__}} misses {{missing[0]}} in this checkpoint, "
                "which was saved by transformers {version}; use that version or a later one"
            )
        return (model, report) if output_loading_info else model

    def __init__(self, config):
        # The stock class must find one size; its layers are then made anew, each in its own.
        sizes = {{int(index): own for index, own in config.to_dict()["per_layer_config"].items()}}
        config.per_layer_config = None
        super().__init__(config)
        layers = self.get_submodule(self.own_layers)
        for index, layer in enumerate(layers):
            resized = copy.copy(config)
            for key, value in sizes.get(index, {{}}).items():
                setattr(resized, key, value)
            layers[index] = type(layer)(resized, index)
{resizing}{removal}        config.per_layer_config = sizes
        self.post_init()

    def set_attn_implementation(self, *arguments, **options):
        super().set_attn_implementation(*arguments, **options)
        # Each layer has a config of its own, which stock code does not know of.
        for module in self.get_submodule(self.own_layers).modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = self.config._attn_implementation


class Pruned{body}(OwnSizes, {body}):
    own_layers = "{layers}"


class Pruned{base}(OwnSizes, {base}):
    own_layers = "{inside}.{layers}"
'''

# Only where some layers are without a sublayer.
STAND_INS = """\
class NoAttention(torch.nn.Module):
    def __init__(self, index):
        super().__init__()
        self.layer_idx = index

    def forward(self, hidden_states, past_key_values=None, **others):
        if past_key_values is not None:  # the cache keeps its count of tokens
            nothing = hidden_states.new_zeros(len(hidden_states), 1, hidden_states.shape[1], 1)
            past_key_values.update(nothing, nothing, self.layer_idx)
        return torch.zeros_like(hidden_states), None


"""
# Only where a class makes some linear modules in sizes that no entry of the config tells.
RESIZING = """\
            for name, size in sizes.get(index, {}).get("linear_sizes", {}).items():
                stock = layers[index].get_submodule(name)
                size = {"in_features": stock.in_features, "out_features": stock.out_features, **size}
                layers[index].set_submodule(name, torch.nn.Linear(bias=stock.bias is not None, **size))
"""
REMOVAL = """\
            for name in sizes.get(index, {}).get("without", ()):
                is_attention = hasattr(layers[index].get_submodule(name), "layer_idx")
                layers[index].set_submodule(name, NoAttention(index) if is_attention else torch.nn.Identity())
"""


@dataclass(frozen=True)
class OwnCode:
    """The file of one model. base: its stock class; body: that of the model without its head; inside: what
    the first calls the second; layers: what that one calls its layers; version: of transformers;
    without: whether some layers are without a sublayer; resized: whether some linear modules have other sizes
    than the class makes them in.
    """

    base: str
    body: str
    inside: str
    layers: str
    version: str
    without: bool = False
    resized: bool = False

    @property
    def text(self) -> str:
        """What the file holds."""
        parts = {
            "imports": "import torch\n" * (self.without or self.resized) + "import transformers",
            "stand_ins": STAND_INS if self.without else "",
            "resizing": RESIZING if self.resized else "",
            "removal": REMOVAL if self.without else "",
        }
        return TEMPLATE.format(**asdict(self), **parts)

    @property
    def class_name(self) -> str:
        """The class of the model with its head."""
        return f"Pruned{self.base}"

    @property
    def auto_map(self) -> dict[str, str]:
        """The entry of the config that names the file's classes."""
        module = Path(MODELLING_FILE).stem
        return {
            "AutoModel": f"{module}.Pruned{self.body}",
            "AutoModelForCausalLM": f"{module}.{self.class_name}",
        }


def known_code(text: str) -> OwnCode | None:
    """The OwnCode that writes exactly this text; None where none does."""
    classes = re.search(r"^from transformers import (\w+), (\w+)$", text, re.MULTILINE)
    # The first is that of the model without a head, which has no name for it.
    *_, path = [None, *re.finditer(r"^    own_layers = \"(\w+)\.([\w.]+)\"$", text, re.MULTILINE)]
    version = re.search(r"was saved by transformers ([\w.+-]+); use", text)
    if classes is None or path is None or version is None:
        return None
    parts = ("class NoAttention" in text, LINEAR_SIZES in text)
    own = OwnCode(classes[1], classes[2], path[1], path[2], version[1], *parts)
    known = all(hasattr(transformers, name) for name in (own.base, own.body))
    return own if known and text == own.text else None
