"""A file that was damaged in DVC's cache is refused by the stage that reads it: through real DVC."""

from pathlib import Path

import pytest

from tests.project import run

STAGES = """\
stages:
  first:
    cmd: python first.py
    outs: [data/first.json]
  second:
    cmd: python second.py
    deps: [data/first.json]
    outs: [data/second.json]
"""
FIRST = """\
from pathlib import Path
from stages.common.artifacts import write_json
write_json(Path("data/first.json"), {"loss": 2.5})
"""
# It reads what it wrote too, which differs from its last run.
SECOND = """\
import time
from pathlib import Path
from stages.common.artifacts import read_json, write_json
from stages.common.errors import InputError
try:
    write_json(Path("data/second.json"), [read_json(Path("data/first.json")), time.time()])
    print(read_json(Path("data/second.json")))
except InputError as error:
    raise SystemExit(f"Error: {error}")
"""
FORCED = ("dvc", "repro", "--force", "--single-item", "second")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in (("dvc.yaml", STAGES), ("first.py", FIRST), ("second.py", SECOND)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    run(tmp_path, "git", "init", "--quiet")
    run(tmp_path, "dvc", "init", "--quiet")
    run(tmp_path, "dvc", "repro", "--quiet")
    return tmp_path


def test_a_stage_that_is_run_again_reads_its_own_output(project: Path) -> None:
    assert "[{'loss': 2.5}, " in run(project, *FORCED)


def test_a_flipped_bit_in_the_cache_is_refused(project: Path) -> None:
    (cached,) = (
        path
        for path in (project / ".dvc/cache/files/md5").rglob("*")
        if path.is_file() and b"loss" in path.read_bytes() and b"[" not in path.read_bytes()
    )
    cached.chmod(0o644)
    cached.write_bytes(cached.read_bytes().replace(b"2.5", b"2.7"))
    (project / "data/first.json").unlink()
    run(project, "dvc", "checkout", "--quiet")
    assert b"2.7" in (project / "data/first.json").read_bytes()
    said = run(project, *FORCED, status=255)
    assert "Error: data/first.json: its md5 is " in said
    assert "damaged in DVC's cache, or changed by hand; delete it and run the stage that writes it" in said


def test_by_hand_a_stage_reads_what_is_there(project: Path) -> None:
    (project / "data/first.json").unlink()
    (project / "data/first.json").write_text('{"loss": 9.0}', encoding="utf-8")
    assert "[{'loss': 9.0}, " in run(project, "python", "second.py")
