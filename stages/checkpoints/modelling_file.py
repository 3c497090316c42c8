"""The modelling file of a checkpoint whose layers differ in size: how it is written, and known again."""

import re

import transformers

MODELLING_FILE = "modeling_pruned.py"

# The stock class builds every layer from the config's own (dense) numbers; this one then replaces each layer
# by one built from a copy of the config with that layer's numbers. Under from_pretrained both happen without
# memory. `per_layer_config` means something to late versions of transformers only; to others it is any other
# entry.
TEMPLATE = '''\
"""{base} whose decoder layers differ in size: `per_layer_config` in the config says in what."""

import copy

import transformers
from transformers import {base}


class {name}({base}):
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
        layers = self.{layers}
        for index, layer in enumerate(layers):
            resized = copy.copy(config)
            for key, value in sizes.get(index, {{}}).items():
                setattr(resized, key, value)
            layers[index] = type(layer)(resized, index)
        config.per_layer_config = sizes
        self.post_init()

    def set_attn_implementation(self, *arguments, **options):
        super().set_attn_implementation(*arguments, **options)
        # Each layer has a config of its own, which stock code does not know of.
        for module in self.{layers}.modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = self.config._attn_implementation
'''


def class_name(base: str) -> str:
    """What the file calls its class, by the stock class of transformers that it is made of."""
    return f"Pruned{base}"


def own_code(base: str, layers: str, version: str) -> str:
    """The file's text. layers: where a model of class `base` has its layers; version: of transformers."""
    return TEMPLATE.format(base=base, name=class_name(base), layers=layers, version=version)


def is_own_code(text: str, name: str) -> bool:
    """Whether a file's text is, to the letter, what own_code gives for the class `name`."""
    base = name.removeprefix("Pruned")
    layers = re.search(r"layers = self\.(\w+(?:\.\w+)*)$", text, re.MULTILINE)
    version = re.search(r"was saved by transformers ([\w.+-]+); use", text)
    if layers is None or version is None or not re.fullmatch(r"\w+ForCausalLM", base):
        return False
    return hasattr(transformers, base) and text == own_code(base, layers[1], version[1])
