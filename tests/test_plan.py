"""The schedule is shown, and rewritten without losing a comment."""

import shutil
from pathlib import Path

import pytest

from stages import plan
from stages.params.file import read_params
from tests.project import PARAMS, invoke


@pytest.fixture
def project(here: Path) -> Path:
    return Path(shutil.copy(PARAMS, here / "params.yaml"))


@pytest.mark.parametrize("curve", ["linear", "cubic"])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_rewritten_rounds_are_valid(project: Path, count: int, curve: str) -> None:
    invoke(plan.main, "--rounds", str(count), "--curve", curve)
    assert read_params(project).chain() == [f"r{number}" for number in range(1, count + 1)]


def test_rewriting_changes_the_rounds_and_their_last_name_only(project: Path) -> None:
    before = project.read_text(encoding="utf-8").splitlines()
    invoke(plan.main, "--rounds", "5")
    after = project.read_text(encoding="utf-8").splitlines()
    gone = [line.strip() for line in before if line not in after]
    assert all(line.startswith(("r1:", "r2:", "r3:", "after: r3")) for line in gone)
    assert sum(line.lstrip().startswith("#") for line in after) == sum(
        line.lstrip().startswith("#") for line in before
    )


def test_cubic_removes_more_at_first(project: Path) -> None:
    invoke(plan.main, "--rounds", "3", "--curve", "cubic")
    progress = [item.progress for item in read_params(project).rounds.values()]
    assert progress == pytest.approx([0.7037, 0.963, 1.0])


def test_a_bad_file_ends_with_one_message_and_status_1(project: Path) -> None:
    project.write_text(
        project.read_text(encoding="utf-8").replace("sparsity: 0.2", "sparsity: 3"), encoding="utf-8"
    )
    assert "params.yaml: prune.sparsity: 3" in invoke(plan.main, status=1)
