"""Models of real shapes with random weights: speed and memory do not depend on the values."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedModel, Qwen2Config

from secateurs.families.decoder import decoder_layers
from secateurs.kinds.kind import Masks
from secateurs.kinds.sites import all_kept_masks, cut, sites_of


def _qwen(hidden: int, mlp: int, layers: int, heads: int, kv_heads: int, small: bool = False) -> Qwen2Config:
    """Qwen2.5 of a size; the small ones share embeddings and head, which have fewer spare rows."""
    return Qwen2Config(
        vocab_size=151936 if small else 152064,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=small,
        max_position_embeddings=32768,
    )


SHAPES: dict[str, PretrainedConfig] = {
    "SmolLM2-135M": LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    ),
    "Qwen2.5-0.5B": _qwen(896, 4864, 24, 14, 2, small=True),
    "Qwen2.5-1.5B": _qwen(1536, 8960, 28, 12, 2, small=True),
    "Qwen2.5-7B": _qwen(3584, 18944, 28, 28, 4),
    "Qwen2.5-32B": _qwen(5120, 27648, 64, 40, 8),
}


def random_model(shape: str, dtype: torch.dtype, device: torch.device, **changes: int) -> PreTrainedModel:
    """A frozen model of the shape, made on the device; `changes` override fields of its config."""
    config = SHAPES[shape].__class__(**{**SHAPES[shape].to_dict(), **changes, "layer_types": None})
    torch.manual_seed(0)
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    frozen: PreTrainedModel = model.eval().requires_grad_(False)
    return frozen


def head_weights(model: PreTrainedModel) -> int:
    """Weights of the output embeddings."""
    head: Any = model.get_output_embeddings()  # transformers' types leave out that these have a weight
    return int(head.weight.numel())


def random_text(model: PreTrainedModel, sequences: int, tokens: int) -> torch.Tensor:
    """Token ids, int64 [sequences, tokens]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.vocab_size, (sequences, tokens), generator=generator)


def masks_at(model: PreTrainedModel, sparsity: float, multiple: int = 64) -> Masks:
    """Uniform mlp masks that remove `sparsity` of the decoder's parameters, or as much as widths allow."""
    layer = decoder_layers(model)[0]
    whole = sum(parameter.numel() for parameter in layer.parameters())
    masks = all_kept_masks(model)
    for site in sites_of(model, ("mlp",)):
        removed = sparsity * whole / (3 * model.config.hidden_size)
        kept = int((site.units - removed) // multiple * multiple)
        masks[site.name] = torch.arange(site.units) < kept
    return masks


def cut_model(model: PreTrainedModel, sparsity: float) -> PreTrainedModel:
    """The model, cut in place."""
    cut(model, masks_at(model, sparsity))
    return model
