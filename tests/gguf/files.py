"""GGUF files of tiny checkpoints, for tests of what is read and written."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from secateurs.checkpoints.family_proof import half_masks
from secateurs.checkpoints.saving import save_model
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.families.twins import twin, twin_config
from secateurs.gguf.deci import add_sizes, tensors_of
from secateurs.gguf.gguf_file import Target, start, store
from secateurs.kinds.sites import cut, finish, sites_of


def llama_file(directory: Path, precision: str = "f32") -> Path:
    """The file of a Llama checkpoint whose layers are alike: `llama` has what `deci` has."""
    target = Target(directory / "model.gguf", precision, "tiny")
    config = AutoConfig.from_pretrained(directory)
    writer = start(target, "llama")
    add_sizes(writer, config)
    store(writer, AutoTokenizer.from_pretrained(directory), target, tensors_of(directory, config))
    return target.path


@torch.no_grad()
def twin_checkpoint(directory: Path, model_type: str, **changes: Any) -> None:
    """A twin of a config of the type, half of the channels of its mlps gone; without a tokenizer."""
    config = twin_config(AutoConfig.for_model(model_type, **{"num_hidden_layers": 2, **changes}))
    config.vocab_size = 320
    model = open_experts(twin(config))
    masks = half_masks(sites_of(model, ["mlp"]))
    cut(model, masks)
    finish(close_experts(model), masks)
    save_model(model, directory)
