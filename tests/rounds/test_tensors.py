"""Masks survive a round trip; damaged files are refused by name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stages.common.errors import InputError
from stages.rounds.tensors import read_masks, write_masks


def test_masks_survive(tmp_path: Path) -> None:
    masks = {"0/mlp": torch.tensor([True, False]), "1/mlp": torch.tensor([False, True])}
    write_masks(tmp_path / "masks.safetensors", masks)
    read = read_masks(tmp_path / "masks.safetensors")
    assert all(torch.equal(read[name], mask) for name, mask in masks.items())


@pytest.mark.parametrize("mask", [torch.zeros(3, dtype=torch.bool), torch.ones(3)])
def test_a_mask_that_keeps_nothing_or_is_not_bool_is_refused(tmp_path: Path, mask: torch.Tensor) -> None:
    save_file({"0/mlp": mask}, tmp_path / "masks.safetensors")
    with pytest.raises(InputError, match="0/mlp: expected a bool vector that keeps something"):
        read_masks(tmp_path / "masks.safetensors")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "masks.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        read_masks(tmp_path / "masks.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        read_masks(tmp_path / "masks.safetensors")
