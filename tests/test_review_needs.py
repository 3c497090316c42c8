"""The workflow that reviews pull requests installs what it needs and no more: no torch."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.project import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ALL, REVIEW = PROJECT["project"]["dependencies"], PROJECT["dependency-groups"]["review"]
# Runs a module as `python -m` does, in an interpreter that cannot import some packages.
WITHOUT = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not among what the review installs")

BLOCKED = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def name_of(requirement: str) -> str:
    return re.split(r"[<>=! ]", requirement)[0].lower()


def test_what_it_installs_is_required_by_the_project_in_the_same_versions() -> None:
    assert set(REVIEW) < set(ALL)


def test_the_workflow_installs_it() -> None:
    workflow = (ROOT / ".github/workflows/review.yml").read_text(encoding="utf-8")
    assert "--constraint constraints.txt --group review\n" in workflow


def test_a_comparison_runs_without_the_rest_of_the_requirements() -> None:
    left_out = {name_of(one) for one in ALL} - {name_of(one) for one in REVIEW}
    modules = [
        module
        for module, owners in packages_distributions().items()
        if {owner.lower().replace("_", "-") for owner in owners} & left_out
    ]
    assert {"torch", "transformers", "datasets"} <= set(modules)
    command = [sys.executable, "-c", WITHOUT, ",".join(modules), "stages.report", "--compare", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "###" in done.stdout
