"""An optimizer with its means in 8 bits: what it keeps, where it ends, and what it refuses.

What needs bitsandbytes is skipped where that is not installed.
"""

import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from secateurs.devices.optimizer import check_optimizer, optimizer_of
from secateurs.errors import SettingError
from secateurs.kinds.sites import cut
from secateurs.recover.incompatible import check_processes
from secateurs.recover.training import Snapshot
from tests.recover.test_distillation import TRAINING, pruned, run, same_weights
from tests.tiny import make_tiny_model

EIGHT = TRAINING.changed(optimizer="adamw_8bit")


def wide() -> tuple[PreTrainedModel, PreTrainedModel]:
    """A teacher whose matrices have 4,096 numbers and more, and a student without half of its channels."""
    teacher, student = (make_tiny_model(hidden_size=64, intermediate_size=128) for _ in range(2))
    cut(student, {f"{layer}/mlp": torch.arange(128) % 2 == 1 for layer in range(3)})
    return teacher, student.requires_grad_(False)


def test_a_library_that_is_missing_is_one_message_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(SettingError, match=r"recover.optimizer: adamw_8bit: needs bitsandbytes, which"):
        check_optimizer("adamw_8bit")
    teacher = make_tiny_model()
    student = pruned(teacher)
    with pytest.raises(SettingError, match=r"pip install bitsandbytes==\S+`, or set it to adamw"):
        run(student, teacher, EIGHT)
    assert same_weights(student, pruned(teacher))


def test_several_processes_keep_float32() -> None:
    with pytest.raises(SettingError, match=r"recover.optimizer: adamw_8bit: one process keeps its means"):
        check_processes(EIGHT, 2)


def test_means_of_large_matrices_are_bytes_and_steps_are_nearly_those_of_adamw() -> None:
    pytest.importorskip("bitsandbytes")
    generator = torch.Generator().manual_seed(0)
    start, target = (torch.randn(64, 64, generator=generator) for _ in range(2))
    ended = {}
    for name in ("adamw", "adamw_8bit"):
        weight = nn.Parameter(start.clone())
        optimizer = optimizer_of(name, [weight], 0.05)
        for _ in range(20):
            (weight - target).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        ended[name] = weight.detach()
        state = optimizer.state[weight]
        held = sum(one.nbytes for key, one in state.items() if key != "step" and "qmap" not in key)
        assert held == 4096 * (8 if name == "adamw" else 2 + 2 * 4 / 256)
    moved = (ended["adamw"] - start).norm()
    assert 0 < (ended["adamw_8bit"] - ended["adamw"]).norm() < 0.05 * moved


@pytest.mark.parametrize("weights", ["all", "low_rank"])
def test_a_run_that_was_stopped_ends_in_the_same_bits(weights: str) -> None:
    pytest.importorskip("bitsandbytes")
    training, taken = EIGHT.changed(weights=weights), list[Snapshot]()

    def keep(take: Callable[[], Snapshot]) -> None:
        snapshot = take()
        copied = {name: one.clone() for name, one in snapshot.tensors.items()}
        taken.append(Snapshot(snapshot.course, copied))

    teacher, whole = wide()
    course = run(whole, teacher, training, on_step=keep)
    assert any(one.dtype == torch.uint8 for one in taken[2].tensors.values()) == (weights == "all")
    _, again = wide()
    assert run(again, teacher, training, snapshot=taken[2]) == course
    assert same_weights(again, whole)
