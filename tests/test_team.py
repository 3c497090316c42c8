"""What the pages show a team: commands of git and DVC in their order, by two clones of one small pipeline."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.project import ENVIRONMENT

PIPELINE = """\
stages:
  surgery: {cmd: mkdir -p data && cp params.yaml data/pruned, params: [share], outs: [data/pruned]}
"""


def run(folder: Path, *commands: str) -> str:
    """What the last of these commands prints; each goes through a shell, as a user types it."""
    printed = ""
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        printed = done.stdout
    return printed


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("quick_dvc")
def test_a_team_shares_runs_through_a_remote_and_a_cache(tmp_path: Path) -> None:
    first, second, store, cache = (tmp_path / name for name in ("first", "second", "store", "dvc-cache"))
    run(
        tmp_path, "git init --quiet --bare your-repository", f"git clone --quiet your-repository {first.name}"
    )
    run(first, "dvc init --quiet")
    (first / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    (first / "params.yaml").write_text("share: 1\n", encoding="utf-8")
    # Once, for a project: a bucket is only written down, and a folder takes its place.
    run(first, "dvc remote add --default store s3://your-bucket/secateurs")
    assert "url = s3://your-bucket/secateurs" in (first / ".dvc/config").read_text(encoding="utf-8")
    run(first, "dvc remote remove store", f"dvc remote add --default store {store}")
    run(first, "dvc remote modify --local store jobs 2")
    assert "jobs = 2" in (first / ".dvc/config.local").read_text(encoding="utf-8")
    run(first, "git check-ignore .dvc/config.local")
    run(first, "git add .dvc/config", 'git commit -m "A remote for the outputs"')
    assert ".dvc/config" in run(first, "git show --stat")
    # After a run.
    run(first, "dvc repro", "git add --all", 'git commit -m "Prune 20%"', "dvc push data/pruned")
    assert not any(name.startswith("runs/") for name in files(store))
    run(first, "dvc push --run-cache", "git push")
    assert any(name.startswith("runs/") for name in files(store))
    # A colleague's clone, in which a change runs what it reaches.
    run(tmp_path, f"git clone --quiet your-repository {second.name}")
    run(second, "dvc pull data/pruned")
    assert (second / "data/pruned").read_bytes() == b"share: 1\n"
    (second / "params.yaml").write_text("share: 2\n", encoding="utf-8")
    assert "Running stage 'surgery'" in run(second, "dvc repro --pull")
    # A cache for both, which only who names the other may clean.
    for clone in (first, second):
        run(clone, f"dvc cache dir --local {cache}", "dvc config --local cache.shared group")
        run(clone, "dvc repro --force")
    assert len(files(cache / "files")) == 2
    run(second, f"dvc gc --workspace --force --projects {first}")
    assert len(files(cache / "files")) == 2
    run(second, "dvc gc --workspace --force")
    assert len(files(cache / "files")) == 1
