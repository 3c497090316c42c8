import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.checkpoints.loading import load_model, load_tokenizer
from stages.common.errors import InputError


def changed(dense_dir: Path, tmp_path: Path, edit: dict[str, torch.Tensor | None]) -> Path:
    """A copy of the checkpoint with tensors replaced, or removed where None."""
    copy = tmp_path / "copy"
    shutil.copytree(dense_dir, copy)
    weights = {**load_file(copy / "model.safetensors"), **edit}
    kept = {name: tensor for name, tensor in weights.items() if tensor is not None}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def test_a_model_is_loaded_frozen_for_evaluation(dense_dir: Path) -> None:
    model = load_model(dense_dir, "bfloat16")
    assert not model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert not any(weight.requires_grad for weight in model.parameters())


def test_weights_that_are_not_finite_are_refused_by_name(dense_dir: Path, tmp_path: Path) -> None:
    copy = changed(dense_dir, tmp_path, {"model.norm.weight": torch.full((32,), float("nan"))})
    with pytest.raises(InputError, match=r"copy: weights are not finite: model.norm.weight"):
        load_model(copy, "float32")


def test_missing_weights_are_refused_by_name(dense_dir: Path, tmp_path: Path) -> None:
    copy = changed(dense_dir, tmp_path, {"model.norm.weight": None})
    with pytest.raises(InputError, match=r"copy: weights are missing: model.norm.weight"):
        load_model(copy, "float32")


@pytest.mark.parametrize("load", [lambda path: load_model(path, "float32"), load_tokenizer])
def test_a_folder_without_a_checkpoint_is_refused_by_name(load: object, tmp_path: Path) -> None:
    assert callable(load)
    with pytest.raises(InputError, match=f"{tmp_path}: cannot be loaded: "):
        load(tmp_path)
