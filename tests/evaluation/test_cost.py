from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from secateurs.errors import InputError
from secateurs.evaluation.cost import macs_per_token, measure_size, weight_bytes
from secateurs.evaluation.peak_memory import peak_memory
from tests.families.test_families import tiny

# conftest's tiny Llama: vocabulary 258, hidden 32, intermediate 48, 3 layers, 4 heads and 2 KV heads of 8.
LAYER_LINEAR = 32 * 32 + 2 * (32 * 16) + 32 * 32 + 3 * (32 * 48)
LAYER = LAYER_LINEAR + 2 * 32
EMBEDDING = 258 * 32


def test_sizes_equal_a_count_by_hand(dense_dir):
    size = measure_size(AutoModelForCausalLM.from_pretrained(dense_dir), dense_dir)
    assert size.decoder_parameters == 3 * LAYER
    assert size.parameters == 3 * LAYER + EMBEDDING + 32
    assert size.macs_per_token == 3 * LAYER_LINEAR + EMBEDDING
    assert size.weight_bytes == (dense_dir / "model.safetensors").stat().st_size


def test_untied_head_counts_as_parameters_and_not_as_more_work(tiny_model, dense_dir):
    tied, untied = (measure_size(tiny_model(tie_word_embeddings=tie), dense_dir) for tie in (True, False))
    assert untied.parameters - tied.parameters == EMBEDDING
    assert untied.macs_per_token == tied.macs_per_token


def test_a_token_works_in_the_experts_it_is_sent_to():
    dense, one, two = (macs_per_token(tiny("mixtral", num_experts_per_tok=count)) for count in (0, 1, 2))
    # tests/families/test_families.py: 2 layers, hidden 32, experts of 24 channels, gated.
    assert (two - one, one - dense) == (2 * 3 * 32 * 24, 2 * 3 * 32 * 24)


def test_weight_bytes_sum_all_shards(tmp_path):
    (tmp_path / "model-1.safetensors").write_bytes(b"x" * 5)
    (tmp_path / "model-2.safetensors").write_bytes(b"x" * 7)
    assert weight_bytes(tmp_path) == 12


def test_directory_without_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no \*\.safetensors"):
        weight_bytes(tmp_path)


def test_peak_memory_holds_at_least_the_weights(tiny_model, tmp_path: Path):
    model = tiny_model(hidden_size=512, intermediate_size=4096)
    model.save_pretrained(tmp_path)
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    peak = peak_memory(tmp_path, "float32", "cpu", 8, 2)
    assert weights < peak < 4 * weights + 100e6
