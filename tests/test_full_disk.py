"""A disk that is full: one message that names the file, nothing half-written, success when there is room.

The disks are mounted in memory, which needs the rights to mount.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stages import (
    benchmarks,
    capture,
    corpus,
    cost,
    mask,
    model,
    page,
    perplexity,
    publish,
    report,
    sample,
    sources,
    surgery,
    tasks,
)
from tests.bad_inputs.local import local_params, make_project, said
from tests.project import ROOT, run
from tests.text.loopback import COMMIT, environment, hub

FULL = (
    "the disk is full, or a limit on it is reached; make room and run the same again: what has its final "
    "name is whole"
)
MEBIBYTE = 2**20
# Bytes that are left on the disk: too little for a small file, for a large one, and for most folders.
ROOM = (4096, 8192, 65536)
STAGES: list[tuple[Any, ...]] = [
    (model.main,), (sources.main, "tales"), (sample.main,), (benchmarks.main,), (corpus.main,),
    (capture.main, "r1"), (mask.main, "r1"), (surgery.main,),
    *((stage, name, "--checkpoint", f"data/{folder}")
      for name, folder in (("dense", "model"), ("pruned", "pruned"))
      for stage in (cost.main, perplexity.main, tasks.main)),
    (report.main,), (page.main,), (publish.main, "pruned"),
]  # fmt: skip
ONE_ROUND = {"rounds": {"r1": {"after": "dense", "progress": 1.0}}, "surgery__after": "r1"}
Disk = Callable[[Path, int], Path]


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Mount a disk of so many bytes on a folder."""
    mounted: list[Path] = []

    def mount(folder: Path, size: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a disk here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        # What still lies open on it, such as pages of weights, keeps it no longer than that.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, room: int) -> Path:
    """Leave so many bytes; the file that takes the others."""
    state = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - room)
    return disk / "filler"


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "filler")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def refused_for_want_of_room(output: str, data: Path) -> None:
    """The message names a file of `data`, which is not there, and nothing has a temporary name."""
    last = output.splitlines()[-1]
    named = last.removeprefix("Error: data/").removesuffix(f": {FULL}")
    assert last == f"Error: data/{named}: {FULL}"
    left = files(data)
    assert named.startswith(".locks/") or named not in left
    assert [name for name in left if ".tmp" in name] == []


@pytest.mark.slow
@pytest.mark.usefixtures("quick_programs")
def test_each_stage_names_what_it_cannot_write_and_succeeds_when_there_is_room(
    here: Path, dense_dir: Path, disk: Disk
) -> None:
    make_project(here, local_params(dense_dir, **ONE_ROUND))
    data = disk(here / "data", 8 * MEBIBYTE)
    for command, *arguments in STAGES:
        kept = files(data)
        for room in ROOM:
            filler = fill(data, room)
            done = CliRunner().invoke(command, arguments)
            filler.unlink()
            if done.exit_code == 0:
                break
            assert (done.exit_code, type(done.exception)) == (1, SystemExit), done.exception
            refused_for_want_of_room(done.output, data)
            # What has its final name is what it will be.
            kept |= files(data)
        else:
            done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 0, done.output
        assert files(data).items() >= kept.items()


@pytest.mark.slow
@pytest.mark.usefixtures("quick_dvc")
def test_a_cache_of_dvc_that_is_full_takes_the_output_when_there_is_room(
    here: Path, dense_dir: Path, disk: Disk
) -> None:
    make_project(here, local_params(dense_dir))
    pipeline = "stages:\n  model: {cmd: python -m stages.model, params: [model], outs: [data/model]}\n"
    (here / "dvc.yaml").write_text(pipeline, encoding="utf-8")
    run(here, "git", "init", "--quiet")
    run(here, "dvc", "init", "--quiet")
    filler = fill(disk(here / ".dvc/cache", 2 * MEBIBYTE), 65536)
    # DVC itself ends with any status then.
    said_by_dvc = run(here, "sh", "-c", "dvc repro; true")
    assert "ERROR: failed to transfer" in said_by_dvc
    assert "No space left on device: '" in said_by_dvc
    filler.unlink()
    # What is not in the cache is made again, whatever dvc.lock says.
    assert "Running stage 'model'" in run(here, "dvc", "repro")
    made = files(here / "data/model")
    # What the cache holds is whole, and gives back the same.
    shutil.rmtree(here / "data/model")
    run(here, "dvc", "checkout")
    assert files(here / "data/model") == made
    assert run(here, "dvc", "status") == "Data and pipelines are up to date.\n"


def test_a_full_folder_for_temporary_files_is_no_fault_of_the_model(
    here: Path, dense_dir: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(here, local_params(dense_dir, prune__sites=["attention"]))
    monkeypatch.setattr(tempfile, "tempdir", str(disk(here / "temporary", MEBIBYTE)))
    monkeypatch.setattr("secateurs.checkpoints.family_proof._PROVED", {})
    filler = fill(here / "temporary", 4096)
    found = said(model.main)
    assert found.startswith(f"{here / 'temporary'}/secateurs-")
    assert found.endswith(f": {FULL}")
    filler.unlink()
    assert CliRunner().invoke(model.main).exit_code == 0


@pytest.mark.slow
def test_a_full_cache_of_the_hub_is_named(here: Path, dense_dir: Path, disk: Disk) -> None:
    params = local_params(dense_dir)
    params["model"] |= {"source": "hub", "id": "owner/tiny", "revision": COMMIT}
    del params["model"]["path"], params["model"]["base_model"]
    make_project(here, params)
    fill(disk(here / "home", MEBIBYTE), 65536)
    with hub({"owner/tiny": files(dense_dir)}) as address:
        settings = {**environment(address, here / "home"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "stages.model"]
        done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Error: params.yaml: model.id: owner/tiny: {here / 'home'}/hub"), done.stderr
    assert last.endswith(f": {FULL}")
    assert done.returncode == 1
