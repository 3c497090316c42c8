"""Statistics survive a round trip; damaged ones are refused by name."""

from pathlib import Path

import pytest
import torch

from secateurs.errors import InputError
from secateurs.measure.capture import DomainCapture
from stages.rounds.captures import read_captures, write_captures

STATISTICS = {name: torch.rand(4) for name in ("square", "variance", "taylor")}


def test_captures_survive(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    write_captures(
        path, {"news": DomainCapture({"0/mlp": STATISTICS}, 2.5, 3, 24, answers=False)}, {"dtype": "float32"}
    )
    read = read_captures(path)["news"]
    assert (read.loss, read.sequences, read.tokens, read.answers) == (2.5, 3, 24, False)
    for name, values in STATISTICS.items():
        assert torch.equal(read.statistics["0/mlp"][name], values)
    assert "fisher" not in read.statistics["0/mlp"]


def test_what_was_lost_survives(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    capture = DomainCapture({"0/mlp": STATISTICS}, 2.5, 3, 24, answers=False, lost=0.25)
    write_captures(path, {"news": capture}, {})
    assert read_captures(path)["news"].lost == 0.25


def test_the_same_captures_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_captures(
            tmp_path / name,
            {"news": DomainCapture({"0/mlp": STATISTICS}, 2.5, 3, 24, answers=False)},
            {"x": 1},
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_statistics_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    broken = {"square": torch.tensor([float("nan")]), "variance": torch.ones(1)}
    write_captures(path, {"news": DomainCapture({"0/mlp": broken}, 2.5, 3, 24, answers=False)}, {})
    with pytest.raises(InputError, match="news/0/mlp/square: holds negative or non-finite"):
        read_captures(path)


@pytest.mark.parametrize(
    ("word", "other"), [("sequences", "sequencer"), ("loss", "lost"), ("news", "mews"), (": 24", ": -4")]
)
def test_counts_that_are_not_of_the_tensors_are_refused(tmp_path: Path, word: str, other: str) -> None:
    path = tmp_path / "statistics.safetensors"
    write_captures(path, {"news": DomainCapture({"0/mlp": STATISTICS}, 2.5, 3, 24, answers=False)}, {})
    data = path.read_bytes()
    start = data.index(b"__metadata__")
    where = data.index(word.encode(), start)
    path.write_bytes(data[:where] + other.encode() + data[where + len(word) :])
    with pytest.raises(
        InputError, match="damaged: its counts per domain are not those of its tensors; delete it"
    ):
        read_captures(path)
