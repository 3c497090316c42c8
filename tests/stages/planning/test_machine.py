"""What does not fit is said, with what to do about it; what fits is not spoken of."""

from collections.abc import Mapping

import torch

from stages.planning.machine import Machine, this_machine, warnings
from stages.planning.memory import PROGRAM, peak_memory
from tests.stages.planning.test_estimate import params
from tests.tiny import make_tiny_model

SMALL = Machine("small", torch.device("cpu"), memory=10**9, free=10**9)


def said(memory: Mapping[str, float], disk: float = 0.0, **groups: dict[str, object]) -> list[str]:
    return list(warnings(params(**groups), SMALL, memory, disk))


def test_what_fits_is_not_spoken_of() -> None:
    assert said({"capture": 9e8, "surgery": 9e8}, disk=9e8) == []


def test_a_stage_that_does_not_fit_is_named_with_a_remedy() -> None:
    (line,) = said({"capture": 2e9, "surgery": 9e8})
    assert line.startswith("capture needs about 2.0 GB of memory at once and small has 1.0 GB; ")
    assert "capture.checkpointing: true; capture.batch_size: 1" in line


def test_a_disk_that_is_too_small_is_named() -> None:
    assert said({}, disk=3e9) == ["the run leaves about 3.0 GB on a disk with 1.0 GB free"]


def test_a_model_over_several_accelerators_is_not_held_against_one() -> None:
    assert said({"capture": 2e9}, compute={"device": "sharded"}) == []


def test_the_machine_has_memory_and_a_disk() -> None:
    machine = this_machine(torch.device("cpu"))
    assert machine.memory > 10**8
    assert machine.free > 0


def test_checkpointing_and_half_precision_need_less() -> None:
    model = make_tiny_model()
    plain = peak_memory(params(), model)
    assert peak_memory(params(capture={"checkpointing": True}), model)["capture"] < plain["capture"]
    assert peak_memory(params(compute={"dtype": "bfloat16"}), model)["surgery"] < plain["surgery"]


def test_without_healing_surgery_holds_the_model_and_one_gram_matrix() -> None:
    model = make_tiny_model()
    surgery = peak_memory(params(surgery={"heal": "none"}), model)["surgery"]
    weights = 4 * sum(weight.numel() for weight in model.parameters())
    assert surgery == PROGRAM + 1.1 * (weights + 12 * 48**2)
