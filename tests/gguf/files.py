"""GGUF files of tiny checkpoints, for tests of what is read and written."""

from pathlib import Path

from transformers import AutoConfig, AutoTokenizer

from secateurs.gguf.deci import add_sizes, tensors_of
from secateurs.gguf.gguf_file import Target, start, store


def llama_file(directory: Path, precision: str = "f32") -> Path:
    """The file of a Llama checkpoint whose layers are alike: `llama` has what `deci` has."""
    target = Target(directory / "model.gguf", precision, "tiny")
    config = AutoConfig.from_pretrained(directory)
    writer = start(target, "llama")
    add_sizes(writer, config)
    store(writer, AutoTokenizer.from_pretrained(directory), target, tensors_of(directory, config))
    return target.path
