"""A checkpoint as one GGUF file, in a form that llama.cpp loads as an architecture of its own.

Layers of one size are written under the family's own architecture. Where sizes differ between layers, or the
architecture cannot take the number of heads, they are written as `deci`, the llama-like architecture of
llama.cpp that reads widths and head counts layer by layer.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from secateurs.choose.weight_bytes import GGUF_PRECISIONS, WHOLE, stored_format
from secateurs.errors import InputError
from secateurs.gguf.architectures import GGUF, Gguf
from secateurs.gguf.checking import check_written
from secateurs.gguf.vocabulary import write_tokenizer
from secateurs.kinds.heads import head_dim

PER_LAYER = Gguf("deci", interleaved=True)
ROPES = ("default", "linear", "llama3")
FREQUENCIES = "rope_freqs.weight"
# By precision: what llama.cpp calls the file.
FILE_TYPES = {
    name: gguf.LlamaFileType["ALL_F32" if name == "f32" else f"MOSTLY_{name.upper()}"]
    for name in GGUF_PRECISIONS
}
VOCABULARY = frozenset({"token_embd.weight", "output.weight"})


def write_gguf(
    checkpoint: Path, tokenizer: PreTrainedTokenizerBase, path: Path, precision: str, name: str
) -> str:
    """Write `checkpoint` (a directory of safetensors) to `path`; returns llama.cpp's architecture.

    precision: a key of GGUF_PRECISIONS, which says with stored_format what each tensor is stored in. Tensors
    pass through memory one at a time. Raises InputError for what GGUF has no place for, and for weights that
    the precision cannot hold.
    """
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    architecture = _architecture(config)
    writer = gguf.GGUFWriter(path, architecture.name, use_temp_file=True)
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[precision])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_sizes(writer, config)
    meant = dict.fromkeys(_write_rope(writer, config), WHOLE)
    write_tokenizer(writer, tokenizer, config.vocab_size)
    for tensor_name, tensor in _tensors(checkpoint, config, architecture):
        form = stored_format(tensor.shape, tensor_name in VOCABULARY, GGUF_PRECISIONS[precision])
        kind = gguf.GGMLQuantizationType[form.upper()]
        # Weights beyond the format's largest number become infinite, which check_written refuses.
        with np.errstate(over="ignore", invalid="ignore"):
            writer.add_tensor(tensor_name, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
        meant[tensor_name] = form
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_written(path, meant, precision)
    return architecture.name


def _architecture(config: PretrainedConfig) -> Gguf:
    stock = GGUF.get(config.model_type)
    if stock is None:
        raise InputError(
            f"config.json: model_type: {config.model_type}: no GGUF is written for it, only for "
            f"{', '.join(sorted(GGUF))}"
        )
    if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        raise InputError("config.json: layer_types: sliding windows have no place in this GGUF architecture")
    if config.hidden_act != "silu":
        raise InputError(f"config.json: hidden_act: {config.hidden_act}: llama.cpp computes silu here")
    sizes = {
        (layer.intermediate_size, layer.num_attention_heads, layer.num_key_value_heads)
        for layer in config.per_layer_config
    }
    first = config.per_layer_config[0]
    filled = first.num_attention_heads * head_dim(first) == config.hidden_size
    return stock if len(sizes) == 1 and (filled or not stock.full_heads) else PER_LAYER


def _write_sizes(writer: gguf.GGUFWriter, config: PretrainedConfig) -> None:
    layers = list(config.per_layer_config)
    size = head_dim(layers[0])
    writer.add_block_count(len(layers))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_vocab_size(config.vocab_size)
    writer.add_feed_forward_length(_one_or_all([layer.intermediate_size for layer in layers]))
    writer.add_head_count(_one_or_all([layer.num_attention_heads for layer in layers]))
    writer.add_head_count_kv(_one_or_all([layer.num_key_value_heads for layer in layers]))
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _one_or_all(values: list[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else values


def _write_rope(writer: gguf.GGUFWriter, config: PretrainedConfig) -> list[str]:
    """Angles: the base, and where they are scaled what divides each frequency, whose name it returns."""
    rope = config.rope_parameters
    if rope["rope_type"] not in ROPES:
        raise InputError(
            f"config.json: rope_parameters: rope_type: {rope['rope_type']}: not written to GGUF; "
            f"only {', '.join(ROPES)}"
        )
    size = head_dim(config.per_layer_config[0])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(size)
    if rope["rope_type"] == "default":
        return []
    plain = rope["rope_theta"] ** -(torch.arange(0, size, 2, dtype=torch.float32) / size)
    scaled, _ = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu")
    writer.add_tensor(FREQUENCIES, (plain / scaled).numpy().astype(np.float32))
    return [FREQUENCIES]


def _tensors(checkpoint: Path, config: PretrainedConfig, architecture: Gguf) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of a checkpoint under its GGUF name, float32, in the order of the files."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.name.upper()], config.num_hidden_layers)
    tied = config.tie_word_embeddings
    for file in _files(checkpoint):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                if tied and name.startswith("lm_head."):
                    continue
                found = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if found is None:
                    raise InputError(
                        f"{file}: {name}: has no place in GGUF's architecture {architecture.name}"
                    )
                tensor = tensors.get_tensor(name).float()
                if architecture.interleaved and ".layers." in name:
                    layer = config.per_layer_config[int(name.split(".layers.")[1].split(".")[0])]
                    if ".q_proj." in name:
                        tensor = _interleave(tensor, layer.num_attention_heads)
                    elif ".k_proj." in name:
                        tensor = _interleave(tensor, layer.num_key_value_heads)
                yield found, tensor.contiguous()


def _files(checkpoint: Path) -> list[Path]:
    index = checkpoint / "model.safetensors.index.json"
    if index.exists():
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [checkpoint / shard for shard in sorted(set(shards))]
    return [checkpoint / "model.safetensors"]


def _interleave(tensor: Tensor, heads: int) -> Tensor:
    """Bring features i and i + half of each head next to each other; rows are a weight's or a bias's."""
    halves = tensor.view(heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)
