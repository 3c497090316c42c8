"""A file that was damaged in DVC's cache is refused by the stage that reads it: through real DVC."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.project import run

pytestmark = pytest.mark.usefixtures("quick_dvc")
STAGES = """\
stages:
  first:
    cmd: python first.py
    outs: [data/first.json, data/folder]
  second:
    cmd: python second.py
    deps: [data/first.json, data/folder]
    outs: [data/second.json]
"""
FIRST = """\
from pathlib import Path
from secateurs.files.json_file import write_json
write_json(Path("data/first.json"), {"loss": 2.5})
write_json(Path("data/folder/inner/part.json"), {"part": 6.5})
write_json(Path("data/folder/unread.json"), {})
"""
# It reads what it wrote too, which differs from its last run.
SECOND = """\
import time
from pathlib import Path
from secateurs.files.json_file import write_json
from stages.common.artifacts import read_json
from secateurs.errors import InputError
try:
    read = [read_json(Path("data/first.json")), read_json(Path("data/folder/inner/part.json")), time.time()]
    write_json(Path("data/second.json"), read)
    print(read_json(Path("data/second.json")))
except InputError as error:
    raise SystemExit(f"Error: {error}")
"""
FORCED = ("dvc", "repro", "--force", "--single-item", "second")
WHOLE = "[{'loss': 2.5}, {'part': 6.5}, "


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once, of which each test gets a copy."""
    directory = tmp_path_factory.mktemp("finished")
    for name, text in (("dvc.yaml", STAGES), ("first.py", FIRST), ("second.py", SECOND)):
        (directory / name).write_text(text, encoding="utf-8")
    run(directory, "git", "init", "--quiet")
    run(directory, "dvc", "init", "--quiet")
    run(directory, "dvc", "repro", "--quiet")
    return directory


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "project", symlinks=True)


def damage(project: Path, before: bytes, after: bytes, cache: str = ".dvc/cache") -> Path:
    """Change bytes of a file in the cache as no program would, and have DVC hand it out. Returns the file."""
    (cached,) = (
        path
        for path in (project / cache / "files/md5").rglob("*")
        if path.is_file() and before in path.read_bytes() and b"[" not in path.read_bytes()
    )
    # Another file: what DVC handed out may be a link to it.
    data = cached.read_bytes()
    cached.unlink()
    cached.write_bytes(data.replace(before, after))
    cached.chmod(0o444)
    shutil.rmtree(project / "data")
    run(project, "dvc", "checkout", "--quiet")
    return cached


def test_a_stage_that_is_run_again_reads_its_own_output(project: Path) -> None:
    assert WHOLE in run(project, *FORCED)


@pytest.mark.parametrize("cache", [".dvc/cache", "elsewhere"])
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("data/first.json", b'"loss": 2.5', b'"loss": 2.7'), ("data/folder/inner/part.json", b"6.5", b"6.7")],
)
def test_a_flipped_bit_in_the_cache_is_refused_and_what_the_message_says_mends_it(
    project: Path, name: str, before: bytes, after: bytes, cache: str
) -> None:
    if cache == "elsewhere":
        run(project, "dvc", "cache", "dir", "--local", cache)
        (project / ".dvc/cache").rename(project / cache)
    cached = damage(project, before, after, cache)
    assert after in (project / name).read_bytes()
    said = run(project, *FORCED, status=255)
    found = re.search(rf"Error: {name}: its md5 is \w+, and dvc.lock says \w+: (.*)", said)
    assert found
    told = re.fullmatch(
        r"damaged in DVC's cache; delete it and (.*), and run `dvc repro --force --single-item first`",
        found[1],
    )
    assert told
    assert (project / told[1]).samefile(cached)
    (project / name).unlink()
    cached.unlink()
    run(project, "dvc", "repro", "--force", "--single-item", "first")
    assert WHOLE in run(project, *FORCED)


def test_a_file_that_was_changed_since_is_refused(project: Path) -> None:
    # While DVC runs the stage: before, it would see the change itself.
    text = SECOND.replace(
        "try:",
        "Path('data/folder/inner/part.json').unlink()\nPath('data/folder/inner/part.json')"
        ".write_text('{}')\ntry:",
    )
    (project / "second.py").write_text(text, encoding="utf-8")
    said = run(project, *FORCED, status=255)
    assert "Error: data/folder/inner/part.json: its md5 is " in said
    assert "changed since; delete it and run `dvc checkout`" in said


def test_a_damaged_list_of_a_folder_is_not_believed(project: Path) -> None:
    (listing,) = (project / ".dvc/cache").rglob("*.dir")
    listing.chmod(0o644)
    listing.write_bytes(listing.read_bytes()[:-9])
    assert WHOLE in run(project, sys.executable, "second.py", DVC_STAGE="second")


def test_by_hand_a_stage_reads_what_is_there(project: Path) -> None:
    (project / "data/first.json").unlink()
    (project / "data/first.json").write_text('{"loss": 9.0}', encoding="utf-8")
    assert "[{'loss': 9.0}, " in run(project, "python", "second.py")
