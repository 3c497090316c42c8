"""What a stage reads, against what dvc.lock says that an earlier stage wrote.

DVC hands out what is in its cache unread, so that a file which was damaged there would pass for whole.
"""

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from secateurs.errors import InputError
from stages.common.dvc import run_dvc

LOCK = Path("dvc.lock")
# A stage that is forced makes its output anew.
AGAIN = "delete it and run the stage that writes it with `dvc repro --force --single-item STAGE`"
# libyaml, where PyYAML was built with it, reads a lock of 4,000 lines in a tenth of the time of Python code.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Larger files inside folders (weights) are not read a second time for their hash, at 2 s a GB.
MOST = 2**30


@dataclass(frozen=True)
class _Output:
    """What dvc.lock says of an output: the stage that writes it, its md5 (that of a folder ends in .dir)."""

    stage: str
    md5: str


def check_hash(path: Path) -> None:
    """Raise InputError where DVC runs this stage and a file is not the one in dvc.lock.

    Files that are an output by themselves, and those in a folder that is one, as DVC's cache lists them. None
    that this stage itself writes, because dvc.lock has those of its last run. By hand, a stage reads what is
    there.
    """
    running = os.environ.get("DVC_STAGE", "")
    if not running or not path.is_file():
        return
    told = _told(running, path)
    if told is None:
        return
    found = _md5(path)
    if found != told.md5:
        raise InputError(f"{path}: its md5 is {found}, and {LOCK} says {told.md5}: {_remedy(told)}")


def check_hashes(folder: Path, most: int = MOST) -> None:
    """Raise InputError as check_hash does for a file of a folder, except for files of over `most` bytes."""
    if os.environ.get("DVC_STAGE"):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.stat().st_size <= most:
                check_hash(path)


def _told(running: str, path: Path) -> _Output | None:
    """What another stage than `running` wrote as this file; None where nothing says so."""
    outputs = _outputs(running)
    if path.as_posix() in outputs:
        return outputs[path.as_posix()]
    for folder in path.parents:
        output = outputs.get(folder.as_posix())
        if output is not None:
            md5 = _listing(output.md5).get(path.relative_to(folder).as_posix())
            return None if md5 is None else _Output(output.stage, md5)
    return None


def _remedy(told: _Output) -> str:
    """What makes the file whole again. The stage alone would not: DVC keeps what its cache has already."""
    cached = _cached(told.md5)
    if cached is not None and _md5(cached) == told.md5:
        return "changed since; delete it and run `dvc checkout`"
    again = f"run `dvc repro --force --single-item {told.stage}`"
    if cached is not None:
        return f"damaged in DVC's cache; delete it and {cached}, and {again}"
    return f"changed since, or damaged in DVC's cache; delete it and {again}"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


@functools.cache
def _listing(md5: str) -> dict[str, str]:
    """The md5 of each file of a folder by its path in there; empty where DVC's cache has no such list."""
    cached = _cached(md5)
    if cached is None or f"{_md5(cached)}.dir" != md5:
        return {}
    listed: list[dict[str, str]] = json.loads(cached.read_bytes())
    return {one["relpath"]: one["md5"] for one in listed}


def _cached(md5: str) -> Path | None:
    """Where DVC's cache has what has this md5; the cache is in its usual place, or where DVC says it is."""
    name = Path("files/md5", md5[:2], md5[2:])
    usual = Path(os.environ.get("DVC_ROOT", "."), ".dvc/cache") / name
    if usual.is_file():
        return usual
    moved = _moved_cache()
    return moved / name if moved is not None and (moved / name).is_file() else None


@functools.cache
def _moved_cache() -> Path | None:
    # As a program of its own, because DVC's modules take longer to import than most stages run.
    try:
        return Path(run_dvc("cache", "dir").strip())
    except InputError:
        return None


@functools.cache
def _outputs(running: str) -> dict[str, _Output]:
    """Every output of another stage than `running`, by its path."""
    try:
        lock: Any = yaml.load(LOCK.read_text(encoding="utf-8"), LOADER)
        stages = dict(lock["stages"])
        stages.pop(running, None)
        # Older versions of DVC hashed text with its line ends changed, and did not name the hash.
        return {
            out["path"]: _Output(name, out["md5"])
            for name, stage in stages.items()
            for out in stage.get("outs", [])
            if out.get("hash") == "md5"
        }
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError, AttributeError):
        # No run yet, or one that is being written down: DVC says what is wrong with it.
        return {}
