"""The project as a reviewer can see it: what git holds at a commit, or what lies in the workspace."""

import subprocess
from pathlib import Path
from typing import Any

from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from stages.params.yaml_file import parse_yaml
from stages.reporting.comparison import Side

PARAMS = "params.yaml"
METRICS = "data/metrics.json"
PLOTS = "data/plots"
# Figures of another commit, to look at on this machine; git ignores the folder.
EXTRACTED = Path("data/compare")


def read_workspace() -> Side:
    """What lies in the working directory; files that are not there are taken as empty."""
    figures = {
        path.name: (path.as_posix(), _git("hash-object", path.as_posix()).decode().strip())
        for path in sorted(Path(PLOTS).glob("*.png"))
    }
    params, metrics = (
        _parsed(path.as_posix(), path.read_bytes()) if path.exists() else {}
        for path in (Path(PARAMS), Path(METRICS))
    )
    return Side("workspace", params, metrics, figures)


def read_commit(revision: str, figures_at: str | None) -> Side:
    """What git holds at a revision; files that it lacks are taken as empty.

    figures_at: the address of a commit's files, with {commit} for its id. Without one, the figures are
    written below data/compare, and linked there.
    Raises InputError when there is no such revision.
    """
    try:
        commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()
    except subprocess.CalledProcessError:
        raise InputError(f"--compare: {revision}: not a commit, branch or tag of this repository") from None
    blobs = {}
    listed = _git("ls-tree", "-r", "-z", commit, "--", PARAMS, METRICS, PLOTS)
    for line in listed.decode(errors="replace").split("\0")[:-1]:
        details, _, path = line.partition("\t")
        blobs[path] = details.split()[2]
    params, metrics = (
        _parsed(f"{revision}:{path}", _git("cat-file", "blob", blobs[path])) if path in blobs else {}
        for path in (PARAMS, METRICS)
    )
    figures = {}
    for path, blob in blobs.items():
        if path.startswith(PLOTS) and path.endswith(".png"):
            if figures_at is None:
                link = EXTRACTED / commit[:8] / Path(path).name
                with atomic(link) as file:
                    file.write_bytes(_git("cat-file", "blob", blob))
                figures[Path(path).name] = (link.as_posix(), blob)
            else:
                figures[Path(path).name] = (f"{figures_at.format(commit=commit)}/{path}", blob)
    return Side(f"{revision} ({commit[:8]})", params, metrics, figures)


def _parsed(where: str, content: bytes) -> Any:
    # JSON is YAML too, so metrics and params are read by one function.
    try:
        return parse_yaml(where, content.decode("utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{where}: cannot be read: not UTF-8 text") from None


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
