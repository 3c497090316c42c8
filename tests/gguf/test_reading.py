"""A GGUF file read quickly, held against the gguf package's own reader."""

from pathlib import Path

import gguf
import numpy as np
from transformers.integrations.gguf.reader import read_gguf_metadata
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from secateurs.checkpoints.gguf_reading import parsed_once
from tests.gguf.files import llama_file
from tests.tiny import make_tiny_model, make_tiny_tokenizer


def test_fields_and_tensors_are_those_of_the_packages_reader(tmp_path: Path) -> None:
    make_tiny_model().save_pretrained(tmp_path)
    make_tiny_tokenizer().save_pretrained(tmp_path)
    path = str(llama_file(tmp_path, "q8_0"))
    expected = gguf.GGUFReader(path)
    with parsed_once():
        found = gguf.GGUFReader(path)
        assert gguf.GGUFReader(path) is found
    assert {name: field.contents() for name, field in found.fields.items()} == {
        name: field.contents() for name, field in expected.fields.items()
    }
    assert [tensor.name for tensor in found.tensors] == [tensor.name for tensor in expected.tensors]
    for one, other in zip(found.tensors, expected.tensors, strict=True):
        assert (one.tensor_type, one.data_offset) == (other.tensor_type, other.data_offset)
        np.testing.assert_array_equal(one.data, other.data)


def test_config_and_tokenizer_are_those_that_transformers_reads_alone(tmp_path: Path) -> None:
    make_tiny_model().save_pretrained(tmp_path)
    make_tiny_tokenizer().save_pretrained(tmp_path)
    path = str(llama_file(tmp_path, "q8_0"))
    expected = load_gguf_checkpoint(path), read_gguf_metadata(path, ("tokenizer.ggml.tokens",))
    with parsed_once():
        assert (load_gguf_checkpoint(path), read_gguf_metadata(path, ("tokenizer.ggml.tokens",))) == expected
    assert expected[0]["tokenizer"]["tokens"]
