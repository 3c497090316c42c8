"""What `secateurs prune` says of time, memory and disk before it begins, and what does not fit."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from secateurs import command_estimate
from secateurs.arguments import order_of
from secateurs.command_estimate import estimate_lines
from secateurs.devices.capacity import Capacity
from secateurs.recover.memory import PROGRAM
from tests.tiny import make_tiny_model

MODEL = make_tiny_model()


def lines(folder: Path, **options: object) -> list[str]:
    """The estimate for two domains of text."""
    for name in ("docs.txt", "letters.txt"):
        (folder / name).write_text("Some text.", encoding="utf-8")
    texts = tuple(str(folder / name) for name in ("docs.txt", "letters.txt"))
    order = order_of(model="model", text=texts, device="cpu", **options)  # type: ignore[arg-type]
    return list(estimate_lines(order, MODEL, MODEL.dtype, folder / "small"))


def small_machine(monkeypatch: pytest.MonkeyPatch, memory: int, free: int, host: int | None = None) -> None:
    """host: of an accelerator's machine, its host memory."""

    def capacity(device: torch.device) -> Capacity:
        return Capacity("small", memory if host is None or device.type == "cuda" else host)

    monkeypatch.setattr(command_estimate, "capacity_of", capacity)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


def test_time_memory_and_disk_are_a_line_each(tmp_path: Path) -> None:
    time, memory, disk = lines(tmp_path)
    assert time.startswith("It takes about ")
    assert "(rounds " in time
    assert ", healing " in time
    assert ", judging " in time
    assert "; it" not in time
    assert memory.startswith("It needs about 4")
    assert "of memory at once, in " in memory
    decoder = sum(weight.numel() for weight in MODEL.model.layers.parameters())
    left = 4 * (MODEL.num_parameters() - 0.2 * decoder)
    assert disk.startswith(f"It writes about {left / 1e3:.0f} kB, of ")


def test_a_recovery_takes_the_minutes_it_is_given_and_tasks_come_on_top(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text("{}", encoding="utf-8")
    items = f"piqa={tmp_path / 'items.jsonl'}"
    time, *_ = lines(tmp_path, recover="10m", eval=items)
    assert time.startswith("It takes about 10 min ")
    assert ", recovery 10 min 00 s; tasks come on top)" in time


def test_trials_are_a_step_of_their_own(tmp_path: Path) -> None:
    assert "(trials " in lines(tmp_path, settings={"prune.sites": "auto"})[0]


def test_what_does_not_fit_is_a_warning_with_what_takes_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_machine(monkeypatch, memory=10**8, free=10**5)
    said = lines(tmp_path)
    warned = [line for line in said if line.startswith("Warning: ")]
    assert len(warned) == 3
    assert warned[0].startswith("Warning: a round needs about 4")
    assert warned[0].endswith("has 100 MB; --set capture.checkpointing=true --set capture.batch_size=1")
    assert warned[1].endswith("; use a larger machine, or --device sharded over several accelerators")
    assert "do not fit on a disk with 100 kB free" in warned[2]


def test_a_k_quant_takes_room_for_the_file_it_is_made_of(tmp_path: Path) -> None:
    plain, exported = (lines(tmp_path, export=precision)[-1] for precision in (None, "q4_k_m"))
    number = [float(line.split()[3]) for line in (plain, exported)]
    # Five bytes a weight beside the four of the checkpoint.
    assert number[1] == pytest.approx(number[0] * 9 / 4, rel=0.02)


def test_on_an_accelerator_the_copies_in_host_memory_are_counted_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_machine(monkeypatch, memory=80 * 10**9, free=10**12, host=10**12)
    monkeypatch.setattr(command_estimate, "resolve_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(command_estimate, "measure_speed", lambda device, dtype: 1e12)
    memory = lines(tmp_path)[1]
    copies = PROGRAM + 3 * 1.1 * 4 * MODEL.num_parameters()
    assert f"of 80.0 GB (small), and {copies / 1e6:.0f} MB of " in memory
    small_machine(monkeypatch, memory=80 * 10**9, free=10**12, host=10**6)
    assert any("holds one at a time" in line for line in lines(tmp_path))
