"""Saving of pruned models, so that transformers 4 and 5 read the same model.

A model whose layers differ in size is saved with a small modelling file.
"""

import json
from pathlib import Path

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from secateurs.checkpoints.modelling_file import MODELLING_FILE, OwnCode
from secateurs.checkpoints.weight_checks import check_result
from secateurs.families.decoder import layers_name
from secateurs.families.family import LINEAR_SIZES
from secateurs.families.old_names import old_names
from secateurs.files.atomic import make_readable
from secateurs.files.json_file import write_json


def in_precision(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Convert the weights, in place, to what loading the saved model in `dtype` gives. Returns the model."""
    # `model.to(dtype)` would round the rotary frequencies too, which a loaded model has in float32.
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


def save_model(model: PreTrainedModel, directory: Path) -> None:
    """Save a pruned model: config and weights, and where layers differ in size its modelling file.

    Where they do not, the stock class loads the checkpoint and no file is written. An entry that transformers
    4 knows by another name is in the config under both (see old_names). Raises InputError for weights that
    are not finite.
    """
    check_result(model)
    config = model.config
    directory.mkdir(parents=True, exist_ok=True)
    # A class that was itself loaded from such a file saves it again without help.
    own_sizes = config.is_heterogeneous and not _stock_sizes(config)
    if own_sizes and hasattr(transformers, type(model).__name__):
        own = OwnCode(
            type(model).__name__,
            type(model.base_model).__name__,
            model.base_model_prefix,
            _layers_name(model),
            transformers.__version__,
            *(
                any(key in sizes for sizes in config.to_dict()["per_layer_config"].values())
                for key in ("without", LINEAR_SIZES)
            ),
        )
        (directory / MODELLING_FILE).write_text(own.text, encoding="utf-8")
        config.auto_map = own.auto_map
    # transformers renames some stock classes' weights between file and memory, but not those of own classes.
    model.save_pretrained(directory, save_original_format=not own_sizes)
    for weights in directory.glob("*.safetensors"):
        make_readable(weights)
    path = directory / "config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    # Left out, it would mean what the reader's version has for a default.
    saved["tie_word_embeddings"] = getattr(config, "tie_word_embeddings", False)
    # vLLM has the stock class in a version of its own, which knows one size; what it does not know it builds
    # from the checkpoint's own code.
    if own_sizes:
        saved["architectures"] = [config.auto_map["AutoModelForCausalLM"].rpartition(".")[2]]
    write_json(path, dict(sorted((saved | old_names(saved)).items())))


def _layers_name(model: PreTrainedModel) -> str:
    return layers_name(model).removeprefix(f"{model.base_model_prefix}.")


def _stock_sizes(config: PretrainedConfig) -> bool:
    """Whether layers that differ are the family's own, which its stock class builds."""
    return bool(type(config)().is_heterogeneous)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Save a tokenizer; class and special tokens under names that both versions of transformers read."""
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    if saved["tokenizer_class"] == "TokenizersBackend":
        saved["tokenizer_class"] = "PreTrainedTokenizerFast"
    # A list under its new name stops transformers 4, which expects a mapping there.
    if "extra_special_tokens" in saved:
        saved["additional_special_tokens"] = saved.pop("extra_special_tokens")
    write_json(path, dict(sorted(saved.items())))
