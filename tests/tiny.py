"""A tiny random-weight model with its own tokenizer, built from code: nothing is downloaded."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from secateurs.checkpoints.saving import save_model
from secateurs.families.examples import example_config
from secateurs.families.twins import twin, twin_config
from secateurs.kinds.sites import cut

BOS, EOS = "<s>", "</s>"


def make_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE without merges: one token a byte, plus BOS and EOS (258 in all)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {BOS: 0, EOS: 1, **{symbol: index + 2 for index, symbol in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS)


def make_tiny_model(**changes: Any) -> LlamaForCausalLM:
    """A random Llama in float32, evaluation mode; `changes` are fields of its LlamaConfig, or `seed`."""
    torch.manual_seed(changes.pop("seed", 0))
    fields: dict[str, Any] = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        # The stock 0.02 leaves so small a model nearly linear; wider weights make its channels differ.
        "initializer_range": 0.2,
    }
    return LlamaForCausalLM(LlamaConfig(**{**fields, **changes})).eval()


def make_tiny_twin(model_type: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model of any family in float32, evaluation mode, frozen; `changes`: fields of its config."""
    config = twin_config(example_config(model_type))
    inner = config.get_text_config(decoder=True)
    for name, value in changes.items():
        assert hasattr(inner, name)
        setattr(inner, name, value)
    return twin(config, seed)


def save_uneven(directory: Path) -> LlamaForCausalLM:
    """A tiny checkpoint with half of the channels in its first layer, so that it has a modelling file."""
    model = make_tiny_model()
    cut(model, {"0/mlp": torch.arange(48) < 24})
    save_model(model, directory)
    make_tiny_tokenizer().save_pretrained(directory)
    return model
