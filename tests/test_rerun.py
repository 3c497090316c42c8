"""The re-run table: real `dvc repro` on a tiny random model. What must run again does, and nothing more."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow
WORDS = ["channel", "prune", "mask", "heal", "round", "corpus", "sample", "metric", "weight", "layer", "leaf"]


def text(seed: int, documents: int = 60) -> str:
    """Lines of text that differ between seeds and share no run of 13 words."""
    return "\n".join(
        " ".join(
            f"{WORDS[(seed + line * 7 + word * (line % 5 + 1)) % len(WORDS)]}{line * word % 17}"
            for word in range(30)
        )
        for line in range(documents)
    )


class Project:
    """A copy of the code with its own params, data and cache."""

    def __init__(self, directory: Path, dense: Path) -> None:
        self.directory = directory
        for name in ("stages", "export", "dvc.yaml", ".dvcignore"):
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, directory / name)
        for number, name in enumerate(("alpha", "beta", "gamma")):
            (directory / f"{name}.txt").write_text(text(number), encoding="utf-8")
        items = [
            f'{{"question": "What is {n} plus {n}?", "choices": ["{2 * n}", "no"], "labels": ["A", "B"], '
            f'"answer": "A"}}'
            for n in range(12)
        ]
        (directory / "items.jsonl").write_text("\n".join(items) + "\n", encoding="utf-8")
        params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["model"] = {"source": "path", "path": str(dense), "name": "tiny", "licence": "none"}
        params["domains"] = {name: self.domain(name) for name in ("alpha", "beta")}
        params["mixture"] = {"alpha": 1.0, "beta": 1.0, "self": 1.0}
        params["benchmarks"] = {"openbookqa": {"source": "path", "path": "items.jsonl"}}
        params["sample"] |= {"documents": 4, "tokens": 96, "batch_size": 4}
        params["corpus"] |= {"sequence_length": 32, "calibration_sequences": 4, "heldout_sequences": 2}
        params["capture"] |= {"sequences": 2}
        params["surgery"] |= {"sequences": 4}
        params["prune"] |= {"width_multiple": 1}
        params["evaluate"] |= {"limit": 4, "prompt_tokens": 8, "decode_tokens": 2, "repeats": 1}
        self.write(params)
        for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
            self.run(command)
        self.before = params

    @staticmethod
    def domain(name: str) -> dict[str, Any]:
        return {"source": "path", "path": f"{name}.txt", "reader": {"format": "lines"}, "documents": 60}

    def write(self, params: dict[str, Any]) -> None:
        with (self.directory / "params.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(params, file)

    def run(self, command: list[str]) -> str:
        binaries = Path(sys.executable).parent
        environment = os.environ | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "DVC_NO_ANALYTICS": "1",
        }
        done = subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def repro(self, changes: dict[str, Any], target: str | None = None) -> list[str]:
        """The stages that ran, in order, after `a.b.c: value` changes to the first params."""
        params = YAML(typ="safe").load((self.directory / "params.yaml").read_text(encoding="utf-8"))
        for key, value in changes.items():
            *groups, last = key.split(".")
            group = params
            for name in groups:
                group = group[name]
            group[last] = value
        self.write(params)
        return re.findall(r"Running stage '(.+)':", self.run(["dvc", "repro", *([target] if target else [])]))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, dense_dir: Path) -> Project:
    project = Project(tmp_path_factory.mktemp("project"), dense_dir)
    ran = project.repro({})
    assert len(ran) == 16, ran
    return project


@pytest.fixture(autouse=True)
def _restored(project: Project) -> Iterator[None]:
    """After every change, going back restores all outputs from the cache and executes nothing."""
    yield
    project.write(project.before)
    assert project.repro({}) == []


def test_nothing_changed_runs_nothing(project: Project) -> None:
    assert project.repro({}) == []


def test_the_export_runs_only_when_it_is_asked_for(project: Project) -> None:
    assert project.repro({}, "export/dvc.yaml") == ["export/dvc.yaml:export"]
    assert (project.directory / "data/export/model.gguf").exists()


def test_evaluate_runs_the_evaluations_and_the_report(project: Project) -> None:
    assert set(project.repro({"evaluate.limit": 6})) == {"evaluate@dense", "evaluate@pruned", "report"}


def test_surgery_leaves_the_dense_evaluation(project: Project) -> None:
    assert project.repro({"surgery.alpha": 0.7}) == ["surgery", "evaluate@pruned", "report"]


def test_the_progress_of_a_round_leaves_the_rounds_before(project: Project) -> None:
    assert project.repro({"rounds.r2.progress": 0.8}, "mask@r3") == ["mask@r2", "capture@r3", "mask@r3"]


@pytest.mark.parametrize(
    ("key", "value"), [("mask.metric", "wanda"), ("prune.sparsity", 0.3), ("mixture.alpha", 3.0)]
)
def test_scores_and_budgets_leave_the_first_capture(project: Project, key: str, value: Any) -> None:
    ran = project.repro({key: value}, "capture@r2")
    assert ran[0] == "mask@r1"
    assert set(ran) <= {"mask@r1", "capture@r2"}


def test_a_domain_added_runs_its_source_the_corpus_and_what_follows(project: Project) -> None:
    changes = {"domains.gamma": Project.domain("gamma"), "mixture.gamma": 1.0}
    assert project.repro(changes, "capture@r1") == ["sources@gamma", "corpus", "capture@r1"]
    # Taken out again, the domain's file stays in data/sources, so the corpus is made once more; its bytes are
    # the same and nothing follows. (In `dvc exp run --temp` and the queue no such file is left.)
    project.write(project.before)
    assert project.repro({}) == ["corpus"]
