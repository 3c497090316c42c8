"""A name has its old version or its new one, whole, at every moment; what the killed leave is cleared."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from secateurs.files import atomic as module
from secateurs.files.atomic import atomic, clear_leftovers
from tests.project import ROOT, run


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")

    def fail() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with atomic(tmp_path / "out") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["second"]


def dead_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def make(path: Path, name: str) -> None:
    with atomic(path) as temporary:
        temporary.mkdir()
        (temporary / "version").write_text(name, encoding="utf-8")


@pytest.mark.parametrize("exchange", [True, False])
def test_a_directory_is_never_seen_missing_or_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    path = tmp_path / "out"
    if not exchange:
        monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    make(path, "0")
    seen, missing, done = set(), 0, threading.Event()

    def watch() -> None:
        nonlocal missing
        while not done.is_set():
            missing += not path.exists()
            # Between the look-up of the directory and that of the file in it, the old directory may go.
            with suppress(FileNotFoundError):
                seen.add((path / "version").read_text(encoding="utf-8"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for version in range(1, 200):
        make(path, str(version))
    done.set()
    watcher.join()
    assert seen <= {str(version) for version in range(200)}
    assert (path / "version").read_text(encoding="utf-8") == "199"
    assert list(tmp_path.iterdir()) == [path]
    if exchange:
        assert missing == 0


def test_what_killed_processes_left_is_cleared_and_what_runs_is_left(tmp_path: Path) -> None:
    dead, alive = dead_process(), os.getppid()
    for name in (f".a.parquet.{dead}.tmp", f".b.c.{alive}.tmp", "kept.tmp", f".a.{dead}.tmp.txt"):
        (tmp_path / name).write_text("", encoding="utf-8")
    (tmp_path / f".model.{dead}.tmp").mkdir()
    (tmp_path / f".model.{dead}.tmp" / "half").write_text("", encoding="utf-8")
    with atomic(tmp_path / "other") as temporary:
        temporary.write_text("", encoding="utf-8")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f".b.c.{alive}.tmp", "kept.tmp", f".a.{dead}.tmp.txt", "other"}


def test_a_number_that_was_given_to_a_later_process_is_no_excuse(tmp_path: Path) -> None:
    path = tmp_path / f".a.{os.getpid()}.tmp"
    path.write_text("", encoding="utf-8")
    os.utime(path, (0, 0))
    clear_leftovers(tmp_path)
    assert not path.exists()


def test_an_old_version_whose_new_one_never_came_goes_back(tmp_path: Path) -> None:
    dead = dead_process()
    for name, others in (("lost", ()), ("there", ("there",))):
        for directory in (f".{name}.{dead}.old", *others):
            (tmp_path / directory).mkdir()
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"lost", "there"}


KILLED = """
import os, signal
from pathlib import Path
from secateurs.files.atomic import atomic
with atomic(Path("out")) as temporary:
    temporary.mkdir()
    (temporary / "version").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_the_old_version_and_the_next_run_clears_the_rest(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    run(tmp_path, sys.executable, "-c", KILLED, status=-signal.SIGKILL)
    assert (tmp_path / "out/version").read_text(encoding="utf-8") == "old"
    assert len(list(tmp_path.iterdir())) == 2
    make(tmp_path / "out", "new")
    assert (tmp_path / "out/version").read_text(encoding="utf-8") == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_are_readable_as_the_mask_of_the_process_has_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with atomic(tmp_path / "out") as temporary:
            temporary.mkdir()
            (temporary / "private").touch(mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "out/private").stat().st_mode & 0o777 == 0o644


def test_a_leftover_is_no_dependency(tmp_path: Path) -> None:
    for program in ("git", "dvc"):
        run(tmp_path, program, "init", "--quiet")
    (tmp_path / ".dvcignore").write_text((ROOT / ".dvcignore").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "data/sources").mkdir(parents=True)
    (tmp_path / "data/sources/news.parquet").write_text("text", encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text(
        "stages: {read: {cmd: echo read > out, deps: [data/sources], outs: [out]}}\n", encoding="utf-8"
    )
    run(tmp_path, "dvc", "repro")
    locked = (tmp_path / "dvc.lock").read_text(encoding="utf-8")
    (tmp_path / f"data/sources/.tales.parquet.{dead_process()}.tmp").write_text("half", encoding="utf-8")
    assert "Running stage" not in run(tmp_path, "dvc", "repro")
    assert (tmp_path / "dvc.lock").read_text(encoding="utf-8") == locked
