"""DVC's queue with two workers at once: each experiment has what a plain run with its settings makes."""

import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.project import change, read_yaml
from tests.test_kills import ONE_ROUND
from tests.test_rerun import Project

pytestmark = pytest.mark.slow
SETTINGS = {"fifth": "0.2", "half": "0.5"}
# What is asked of the workers: seconds from the first one's start to the end.
MOST_SECONDS = 600
OUTPUT = "data/pruned"


def pruned(lock: str) -> Any:
    """What a dvc.lock has of the pruned model: its hash, size and number of files."""
    (found,) = [
        one for one in YAML(typ="safe").load(lock)["stages"]["surgery"]["outs"] if one["path"] == OUTPUT
    ]
    return found


def lock_of(project: Project, name: str) -> str:
    """The dvc.lock of an experiment."""
    refs = project.run(["git", "for-each-ref", "--format=%(refname)", "refs/exps"]).split()
    (ref,) = [one for one in refs if one.endswith(f"/{name}")]
    return project.run(["git", "show", f"{ref}:dvc.lock"])


def states(project: Project) -> list[str]:
    """What the queue says of each experiment."""
    rows = project.run(["dvc", "queue", "status"]).splitlines()
    return [row.split()[-1] for row in rows if any(name in row for name in SETTINGS)]


def test_two_workers_of_a_queue_make_what_plain_runs_make(
    tmp_path: Path, dense_dir: Path, quick_dvc: None
) -> None:
    projects = {}
    for name in ("queued", *SETTINGS):
        (tmp_path / name).mkdir()
        projects[name] = Project(tmp_path / name, dense_dir)
        params = change(read_yaml(projects[name].directory / "params.yaml"), ONE_ROUND)
        projects[name].write(params)
    queued = projects["queued"]
    queued.commit()
    for name, sparsity in SETTINGS.items():
        setting = f"prune.sparsity={sparsity}"
        queued.run(["dvc", "exp", "run", "--queue", "--name", name, "-S", setting, "surgery"])
    # The workers keep what they print to open, so that no pipe of it would end before they do.
    queued.run(["sh", "-c", "dvc queue start --jobs 2 > /dev/null 2>&1"])
    seen: list[list[str]] = []
    ends = time.monotonic() + MOST_SECONDS
    while (now := states(queued)) and set(now) & {"Queued", "Running"} and time.monotonic() < ends:
        seen.append(now)
        time.sleep(1)
    assert now == ["Success", "Success"], [queued.run(["dvc", "queue", "logs", name]) for name in SETTINGS]
    assert ["Running", "Running"] in seen, seen
    made = {}
    for name, sparsity in SETTINGS.items():
        made[name] = pruned(lock_of(queued, name))
        alone = projects[name]
        alone.repro({"prune.sparsity": float(sparsity)}, "surgery")
        assert made[name] == pruned((alone.directory / "dvc.lock").read_text(encoding="utf-8"))
    assert made["fifth"]["md5"] != made["half"]["md5"]
    # The workspace has neither.
    assert not (queued.directory / OUTPUT).exists()
