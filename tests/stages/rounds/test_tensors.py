"""Masks survive a round trip; damaged files are refused by name."""

from pathlib import Path

import pytest
import torch

from secateurs.errors import InputError
from stages.rounds.tensors import check_kept, read_masks, write_masks, write_tensors


def test_masks_survive(tmp_path: Path) -> None:
    masks = {"0/mlp": torch.tensor([True, False]), "1/mlp": torch.tensor([False, True])}
    write_masks(tmp_path / "masks.safetensors", masks)
    read = read_masks(tmp_path / "masks.safetensors")
    assert all(torch.equal(read[name], mask) for name, mask in masks.items())


@pytest.mark.parametrize("mask", [torch.zeros(3, dtype=torch.bool), torch.ones(3)])
def test_a_mask_that_keeps_nothing_or_is_not_bool_is_refused(tmp_path: Path, mask: torch.Tensor) -> None:
    write_tensors(tmp_path / "masks.safetensors", {"0/mlp": mask}, {})
    with pytest.raises(InputError, match="0/mlp: expected a bool vector that keeps something"):
        read_masks(tmp_path / "masks.safetensors")


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "masks.safetensors"
    write_masks(path, {"0/mlp": torch.tensor([True, False, True])})
    data = bytearray(path.read_bytes())
    for place, bit in ((-1, 1), (-2, 1), (-3, 2)):
        data[place] ^= bit
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"masks\.safetensors: damaged: its tensors are not those"):
            read_masks(path)
        data[place] ^= bit
    path.write_bytes(data)
    assert read_masks(path)["0/mlp"].tolist() == [True, False, True]


HISTORY = [{"kept": {"mlp": [3, 3]}}, {"kept": {"mlp": [2, 1]}}]
KEPT = {
    "0/mlp": torch.tensor([True, True, False]),
    "1/mlp": torch.tensor([False, True, False]),
    "0/attention": torch.ones(2, dtype=torch.bool),
}


def test_masks_that_keep_what_the_history_says_pass() -> None:
    check_kept(KEPT, HISTORY, Path("rounds/r2"))
    check_kept({"0/mlp": torch.ones(3, dtype=torch.bool)}, [], Path("rounds/dense"))


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ("1/mlp", r"rounds/r2: masks\.safetensors keeps \[2, 2\] units of mlp, history\.json says \[2, 1\]"),
        ("0/attention", r"keeps \[1\] units of attention, history\.json says \[2\]"),
    ],
)
def test_masks_that_keep_something_else_than_the_history_says_are_refused(site: str, said: str) -> None:
    other = torch.tensor([True, True, False] if site == "1/mlp" else [True, False])
    masks = KEPT | {site: other}
    with pytest.raises(InputError, match=said):
        check_kept(masks, HISTORY, Path("rounds/r2"))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "masks.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        read_masks(tmp_path / "masks.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        read_masks(tmp_path / "masks.safetensors")
