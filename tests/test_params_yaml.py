"""The files of settings as DVC writes them: `-S` of an experiment changes the lines that it names alone."""

import difflib
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from stages.params.overlay import preset_names
from tests.project import PARAMS, params_file

NAMES = [PARAMS.stem, *preset_names()]


def changed_lines(file: Path, directory: Path, overrides: list[str]) -> list[str]:
    """What DVC's own code takes out of a copy of `file` and puts in: `-line` and `+line`."""
    copy = Path(shutil.copy(file, directory / "params.yaml"))
    apply_overrides(copy, overrides)
    lines = [path.read_text(encoding="utf-8").splitlines() for path in (file, copy)]
    return [line for line in difflib.unified_diff(*lines, n=0, lineterm="") if line[:3] not in {"---", "+++"}]


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_that_stays_the_same_changes_no_line(name: str, tmp_path: Path) -> None:
    assert changed_lines(params_file(name, tmp_path), tmp_path, ["mask.seed=0"]) == []


@pytest.mark.parametrize("name", NAMES)
def test_one_setting_changes_one_line(name: str, tmp_path: Path) -> None:
    changed = [
        line
        for line in changed_lines(params_file(name, tmp_path), tmp_path, ["mask.seed=7"])
        if line[0] != "@"
    ]
    assert changed == ["-  seed: 0  # of the metric `random`", "+  seed: 7  # of the metric `random`"]


@pytest.mark.parametrize("name", NAMES)
def test_a_longer_list_adds_a_line_and_drops_no_comment(name: str, tmp_path: Path) -> None:
    changed = changed_lines(params_file(name, tmp_path), tmp_path, ["prune.sites=[mlp,attention]"])
    assert [line for line in changed if line[0] != "@"] == ["+  - attention"]
