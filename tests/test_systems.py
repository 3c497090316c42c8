"""The commands without make are those that make runs, and CI runs them where make is too old."""

import re

import pytest

from tests.pages import TEXTS, rows
from tests.project import ROOT, run_make

TABLE = rows(TEXTS["docs/troubleshooting.md"], "make")
# The rows that are not the lines of a recipe, word for word.
OTHERS = {"make setup", "make test"}


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def recipe(target: str) -> list[str]:
    """The lines that make would run once the environment is there."""
    shown = run_make(*target.split()[1:], "--dry-run")
    return re.split(r"touch \S+/\.installed\n", shown)[-1].splitlines()


RECIPES = [(named(row[0])[0], named(row[1])) for row in TABLE if row[0] and named(row[0])[0] not in OTHERS]


@pytest.mark.parametrize(("target", "commands"), RECIPES, ids=[target for target, _ in RECIPES])
def test_without_make_the_same_commands_run(target: str, commands: list[str]) -> None:
    assert recipe(target) == commands


def test_the_page_and_make_install_the_same_converter() -> None:
    (named_here,) = re.findall(r"--target \.llama/converter (\S+)", TEXTS["docs/checkpoints.md"])
    assert f'"{named_here}"' in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_ci_sets_up_and_tests_as_the_page_says() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8").replace("--quiet ", "")
    commands = [
        command for row in TABLE for command in named(row[1]) if " -m pip " in command or "pytest" in command
    ]
    assert len(commands) == 3
    assert all(f".venv/bin/{command}\n" in workflow for command in commands)
