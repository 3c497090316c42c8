"""Saving of pruned models, so that transformers 4 and 5 read the same model.

A model whose layers differ in size is saved with a small modelling file.
"""

from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.checkpoints.old_names import old_names
from stages.common.artifacts import read_json, write_json
from stages.pruning.decoder import decoder_layers

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


def in_precision(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Convert the weights, in place, to what loading the saved model in `dtype` gives. Returns the model."""
    # `model.to(dtype)` would round the rotary frequencies too, which a loaded model has in float32.
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


def save_model(model: PreTrainedModel, directory: Path) -> None:
    """Save a pruned model: config and weights, and where layers differ in size its modelling file.

    Where they do not, the stock class loads the checkpoint and no file is written. An entry that transformers
    4 knows by another name is in the config under both (see old_names).
    """
    config = model.config
    directory.mkdir(parents=True, exist_ok=True)
    # A class that was itself loaded from such a file saves it again without help.
    if config.is_heterogeneous and hasattr(transformers, type(model).__name__):
        base = type(model).__name__
        name = f"Pruned{base}"
        layers = f"{model.base_model_prefix}.{_layers_name(model)}"
        text = TEMPLATE.format(base=base, name=name, layers=layers, version=transformers.__version__)
        (directory / "modeling_pruned.py").write_text(text, encoding="utf-8")
        config.auto_map = {"AutoModelForCausalLM": f"modeling_pruned.{name}"}
    # transformers renames some stock classes' weights between file and memory, but not those of own classes.
    model.save_pretrained(directory, save_original_format=not config.is_heterogeneous)
    path = directory / "config.json"
    saved = read_json(path)
    write_json(path, dict(sorted((saved | old_names(saved)).items())))


def _layers_name(model: PreTrainedModel) -> str:
    layers = decoder_layers(model)
    return next(name for name, child in model.base_model.named_children() if child is layers)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Save a tokenizer; class and special tokens under names that both versions of transformers read."""
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    saved = read_json(path)
    if saved["tokenizer_class"] == "TokenizersBackend":
        saved["tokenizer_class"] = "PreTrainedTokenizerFast"
    # A list under its new name stops transformers 4, which expects a mapping there.
    if "extra_special_tokens" in saved:
        saved["additional_special_tokens"] = saved.pop("extra_special_tokens")
    write_json(path, dict(sorted(saved.items())))
