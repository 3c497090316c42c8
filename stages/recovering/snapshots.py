"""The snapshot of a recovery while it runs, from which a recovery that was stopped goes on.

DVC deletes a stage's outputs before it runs it again. Snapshots therefore are not among them but in a
directory that DVC does not know and git ignores, and are deleted when the stage has succeeded.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_parts
from torch.distributed.checkpoint.state_dict_saver import save as save_parts

from secateurs.devices.parallel import processes
from secateurs.files.json_file import write_json
from secateurs.progress import is_first
from secateurs.recover.sharding import agreed
from secateurs.recover.training import Check, Course, Snapshot
from secateurs.settings.recovery import Training
from stages.rounds.tensors import read_tensors, write_tensors

SCRATCH = Path("data/.recovering")
# At least this long between two snapshots, and so long that writing them takes a twentieth of the time.
SECONDS = 300.0
SHARE = 0.05
# What parts of several processes have beside them.
COURSE = "course.json"

Save = Callable[[Callable[[], Snapshot]], None]


def snapshot_path(settings: Mapping[str, Any], inputs: Iterable[Path]) -> Path:
    """Where the run with these settings (JSON) and inputs (files, or directories of files) has its snapshot.

    The name is a hash of both, so that a run with another setting, model, text or code never goes on from it.
    """
    whole = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in inputs:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in files:
            with file.open("rb") as content:
                whole.update(file.name.encode() + hashlib.file_digest(content, "sha256").digest())
    return SCRATCH / f"{whole.hexdigest()[:16]}.safetensors"


def code_files(*modules: ModuleType) -> list[Path]:
    """Where the code of modules is."""
    return [Path(str(module.__file__)) for module in modules]


def read_snapshot(path: Path) -> Snapshot | None:
    """The snapshot, if there is one, whole in host memory; InputError when it is damaged."""
    if not path.exists():
        return None
    tensors, metadata = _read_parts(path) if path.is_dir() else read_tensors(path)
    checks = tuple(Check(**check) for check in metadata["checks"])
    losses, tokens = tuple(metadata["losses"]), tuple(metadata["tokens"])
    course = Course(losses, checks, metadata["steps"], tokens, metadata["best_by"])
    return Snapshot(course, tensors)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot; the one before stays until it is whole.

    Of several processes each writes its parts into a folder of that name (torch.distributed.checkpoint),
    which any number of processes can read.
    """
    if processes() == 1:
        if path.is_dir():
            shutil.rmtree(path)
        write_tensors(path, dict(snapshot.tensors), asdict(snapshot.course))
        return
    written = path.with_suffix(".parts")
    save_parts(dict(snapshot.tensors), checkpoint_id=written)
    if is_first():
        write_json(written / COURSE, asdict(snapshot.course))
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        written.rename(path)
    dist.barrier()


def _read_parts(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors that several processes wrote, and the course."""
    found = FileSystemReader(path).read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(one.size, dtype=one.properties.dtype)
        for name, one in found.items()
        if isinstance(one, TensorStorageMetadata)
    }
    load_parts(tensors, checkpoint_id=path, no_dist=True)
    return tensors, json.loads((path / COURSE).read_text(encoding="utf-8"))


def saving(path: Path, training: Training) -> Save:
    """What to call after every step with a function that takes a snapshot; now and then it writes one.

    After the last step of the training it writes one too, from which a training that follows can begin.
    """
    due = time.monotonic() + SECONDS

    def save(take: Callable[[], Snapshot]) -> None:
        nonlocal due
        start, snapshot = time.monotonic(), take()
        # All processes must write at the same step.
        if not agreed(start >= due or snapshot.course.ended(training)):
            return
        write_snapshot(path, snapshot)
        done = time.monotonic()
        due = done + max(SECONDS, (done - start) / SHARE)

    return save


def clear() -> None:
    """Delete all snapshots, also what other settings left when they were stopped."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
