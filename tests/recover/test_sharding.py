"""Two processes recover as one does, and each goes on where the other stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateurs.errors import SettingError
from secateurs.recover import incompatible
from secateurs.recover.training import Course, Snapshot
from secateurs.settings.recovery import Training
from stages.recovering.snapshots import read_snapshot, write_snapshot
from tests.project import under_torchrun
from tests.recover.test_distillation import OFF, SCALES, TRAINING, pruned, run
from tests.tiny import make_tiny_model

PROGRAM = ("-m", "tests.recover.group_program")


def together(folder: Path, processes: int = 2, stop: int = 0) -> dict[str, Any]:
    printed = under_torchrun(processes, *PROGRAM, str(folder), str(stop))
    found: dict[str, Any] = json.loads(printed) if printed.strip() else {}
    return found


def close(course: Course, found: dict[str, Any]) -> None:
    assert found["losses"] == pytest.approx(course.losses, abs=1e-5)
    divergences = [check["divergence"] for check in found["checks"]]
    assert divergences == pytest.approx([check.divergence for check in course.checks], abs=1e-5)


def test_two_processes_train_as_one_and_each_goes_on_where_the_other_stopped(tmp_path: Path) -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    course = run(student, teacher)
    found = together(tmp_path)
    close(course, found["course"])
    sums = {name: float(weight.detach().double().abs().sum()) for name, weight in student.named_parameters()}
    assert found["weights"] == pytest.approx(sums, rel=1e-4)

    # Two processes stop, one goes on.
    assert together(tmp_path, stop=3) == {}
    path = tmp_path / "snapshot.safetensors"
    assert path.is_dir()
    snapshot = read_snapshot(path)
    assert snapshot is not None
    assert len(snapshot.course.losses) == 3
    close(run(pruned(teacher), teacher, snapshot=snapshot), found["course"])

    # One stops, two go on.
    def stop(take: Callable[[], Snapshot]) -> None:
        if len(take().course.losses) == 4:
            write_snapshot(path, take())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pruned(teacher), teacher, on_step=stop)
    assert path.is_file()
    close(course, together(tmp_path)["course"])


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (SCALES, "recover.weights: scales: 3 processes train all weights"),
        (
            TRAINING.changed(on_policy=OFF.changed(share=0.5)),
            "recover.on_policy.share: 0.5: answers are written by one process",
        ),
        (TRAINING, "recover.batch_size: 4: cannot be divided among 3 processes"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(
    training: Training, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incompatible, "processes", lambda: 3)
    teacher = make_tiny_model()
    with pytest.raises(SettingError, match=message):
        run(pruned(teacher), teacher, training)
