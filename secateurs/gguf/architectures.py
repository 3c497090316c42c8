"""The architectures of llama.cpp that a GGUF is written for, by the model_type of transformers."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Gguf:
    """What llama.cpp calls an architecture, and what it does otherwise than transformers.

    interleaved: it turns neighbouring features of a head by one angle, transformers features half a head
    apart. full_heads: it takes the queries to be as many as hidden_size.
    """

    name: str
    interleaved: bool = False
    full_heads: bool = False


GGUF: Mapping[str, Gguf] = {
    "llama": Gguf("llama", interleaved=True),
    "qwen2": Gguf("qwen2", full_heads=True),
}
