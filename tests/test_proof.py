"""A checkpoint is proved by a process that has nothing but its files; what is wrong with one is found."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.checkpoints import load_model
from stages.errors import InputError
from stages.proof import prove_load

IDS = torch.arange(24).view(2, 12)
SHOWN = Path("data/pruned")


def test_a_whole_checkpoint_is_proved(dense_dir: Path) -> None:
    proof = prove_load(load_model(dense_dir, "float32"), dense_dir, IDS, SHOWN)
    assert proof.loaded == "LlamaForCausalLM"
    assert (proof.tokens, proof.difference < 1e-5) == (24, True)


def test_half_precision_is_compared_in_half_precision(dense_dir: Path) -> None:
    assert prove_load(load_model(dense_dir, "bfloat16"), dense_dir, IDS, SHOWN).difference < 0.05


def test_a_weight_that_was_not_saved_as_it_is_in_memory_is_found(dense_dir: Path, tmp_path: Path) -> None:
    model = load_model(dense_dir, "float32")
    copy = shutil.copytree(dense_dir, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= 1.05
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="data/pruned: the loaded checkpoint computes something else"):
        prove_load(model, copy, IDS, SHOWN)


def test_a_config_that_does_not_fit_the_weights_is_found(dense_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dense_dir, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"intermediate_size": 24}))
    with pytest.raises(
        InputError, match="data/pruned: the checkpoint does not load in a fresh process: RuntimeError"
    ):
        prove_load(load_model(dense_dir, "float32"), copy, IDS, SHOWN)
