"""Text from local files."""

import glob
from pathlib import Path

from secateurs.errors import SettingError


def read_files(pattern: str, key: str) -> dict[str, bytes]:
    """The content of the files that a path or glob names; `key` is where params.yaml has it.

    Raises InputError when nothing matches or cannot be read.
    """
    return {name: read_file(path, key) for name, path in find_files(pattern, key).items()}


def find_files(pattern: str, key: str) -> dict[str, Path]:
    """The files that a path or glob (`**` for any folders) names; `key` is where params.yaml has it.

    The names are relative to the part of the path without wildcards, so that a document keeps its id, and
    with it its split, when the folder moves. What exists under the name as it stands is no pattern, whatever
    brackets it has. Raises InputError when nothing matches.
    """
    wanted = located(pattern, key)
    root = _fixed_part(wanted)
    paths = [wanted] if wanted.exists() else sorted(root.glob(str(wanted.relative_to(root))))
    files = [path for path in paths if path.is_file()]
    if not files:
        hint = f"; to read all files of the folder, write {pattern.rstrip('/')}/*" if paths else ""
        raise SettingError(f"{key}: {pattern}: no such file{hint}")
    return {path.relative_to(root).as_posix(): path for path in files}


def located(path: str, key: str) -> Path:
    """A path of params.yaml, `~` replaced. InputError, naming its `key`, for what can be no path here."""
    try:
        found = Path(path).expanduser()
        found.exists()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(f"{key}: {path[:60]}: no such file: {reason}") from None
    return found


def _fixed_part(pattern: Path) -> Path:
    for parent in reversed(pattern.parents):
        if glob.has_magic(parent.name) and not parent.exists():
            return parent.parent
    return pattern.parent


def read_file(path: Path, key: str) -> bytes:
    """The bytes of a file. Raises InputError, naming the key of params.yaml, where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingError(f"{key}: {path}: cannot be read: {error.strerror}") from None
