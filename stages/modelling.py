"""Saving of pruned models, with the small modelling file that one needs whose layers differ in size."""

from pathlib import Path

from transformers import PreTrainedModel

from stages.pruning.layouts import family_of

# The stock class builds every layer from the config's own (dense) numbers; this one then builds each anew
# from transformers' view of the config at that layer. Under from_pretrained both happen without memory.
TEMPLATE = '''\
"""{base} whose decoder layers differ in size: `per_layer_config` in the config says in what."""

from transformers import {base}


class {name}({base}):
    def __init__(self, config):
        # The stock class must find one size; its layers are then made anew, each in its own.
        sizes = config.to_dict()["per_layer_config"]
        config.per_layer_config = None
        super().__init__(config)
        config.per_layer_config = sizes
        layers = self.base_model.{layers}
        for index, layer in enumerate(layers):
            layers[index] = type(layer)(config.per_layer_config[index], index)
        self.post_init()

    def set_attn_implementation(self, *arguments, **options):
        super().set_attn_implementation(*arguments, **options)
        # Each layer has a config of its own, which stock code does not know of.
        for module in self.base_model.{layers}.modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = self.config._attn_implementation
'''


def save_model(model: PreTrainedModel, directory: Path) -> None:
    """Save a pruned model: config and weights, and where layers differ in size its modelling file.

    Where they do not, the stock class loads the checkpoint and no file is written.
    """
    config = model.config
    directory.mkdir(parents=True, exist_ok=True)
    if config.is_heterogeneous:
        base = type(model).__name__
        name = f"Pruned{base}"
        text = TEMPLATE.format(base=base, name=name, layers=family_of(config).layers)
        (directory / "modeling_pruned.py").write_text(text, encoding="utf-8")
        config.auto_map = {"AutoModelForCausalLM": f"modeling_pruned.{name}"}
    # transformers renames some stock classes' weights between file and memory, but not those of own classes.
    model.save_pretrained(directory, save_original_format=not config.is_heterogeneous)
