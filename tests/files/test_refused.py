"""A path that cannot be used as it is: one message that names it, before anything is computed."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from secateurs.cli import main
from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from secateurs.files.full_disk import check_writable, room_for
from stages import model, sources
from tests.bad_inputs.local import local_params, make_project, said
from tests.project import invoke

REMEDY = "change the rights or the kind of it and of its folders, or name another"
LONG = "x" * 250
# What is asked for, and what is said of it.
PATHS = {
    "file/out": "Not a directory",
    "file/a/b/out": "Not a directory",
    LONG: "File name too long",
    f"{LONG * 2}/out": "File name too long",
}


@pytest.mark.parametrize("path", PATHS, ids=["in a file", "deep in a file", "long", "in a long one"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_model_is_read(path: str, here: Path) -> None:
    Path("file").touch()
    Path("t.txt").write_text("one", encoding="utf-8")
    message = f"{path}: cannot be read or written: {PATHS[path]}; {REMEDY}"
    with pytest.raises(InputError) as refused:
        check_writable(Path(path))
    assert str(refused.value) == message
    given = ["prune", "gone", "--text", "t.txt", "--out", path]
    assert invoke(main, *given, status=1).splitlines()[-1] == f"Error: {message}"
    assert sorted(one.name for one in here.iterdir()) == ["file", "t.txt"]


def test_a_read_only_disk_is_refused(here: Path) -> None:
    Path("disk").mkdir()
    for command in (["mount", "--bind", "disk", "disk"], ["mount", "-o", "remount,ro,bind", "disk"]):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a disk here")
    try:
        for path in (Path("disk/out"), Path("disk/a/b/out")):
            message = rf"^{path}: cannot be read or written: Read-only file system; {REMEDY}$"
            with pytest.raises(InputError, match=message):
                check_writable(path)
        with pytest.raises(InputError, match=r"^disk/out: cannot be read"), atomic(Path("disk/out")) as out:
            out.mkdir()
    finally:
        subprocess.run(["umount", "disk"], check=True)
    check_writable(Path("disk/a/b/out"))
    assert not list(Path("disk").iterdir())


def test_a_file_where_a_stage_has_its_folder_is_named(here: Path, dense_dir: Path) -> None:
    make_project(here, local_params(dense_dir))
    invoke(model.main)
    Path("data/sources").touch()
    assert said(sources.main, "tales") == f"data/sources: cannot be read or written: File exists; {REMEDY}"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.EISDIR])
def test_what_a_system_refuses_is_said_of_the_file_that_it_names(number: int) -> None:
    with (
        pytest.raises(InputError, match=f"^there: cannot be read or written: {os.strerror(number)}; "),
        room_for("x"),
    ):
        raise OSError(number, os.strerror(number), "there")


def test_other_errors_pass() -> None:
    with pytest.raises(FileNotFoundError), room_for("x"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "there")
