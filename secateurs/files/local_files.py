"""Text from local files."""

import glob
import os
from fnmatch import fnmatchcase
from pathlib import Path

from secateurs.errors import InputError, SettingError


def find_files(pattern: str, key: str) -> dict[str, Path]:
    """The files that a path or glob (`**` for any folders) names; `key` is where params.yaml has it.

    The names are relative to the part of the path without wildcards, so that a document keeps its id, and
    with it its split, when the folder moves. What exists under the name as it stands is no pattern, whatever
    brackets it has. Links are followed; a folder that several lead to is read once, in `**`. Raises
    SettingError when nothing matches, and for what matches and cannot be read.
    """
    wanted = located(pattern, key)
    root = _fixed_part(wanted)
    try:
        paths = [wanted] if wanted.exists() else sorted(_matches(root, wanted.relative_to(root).parts, set()))
        lost = next((path for path in paths if path.is_symlink() and not path.exists()), None)
        files = [path for path in paths if path.is_file()]
    except OSError as error:
        raise SettingError(f"{key}: {pattern}: {error.filename}: cannot be read: {error.strerror}") from None
    if lost is not None:
        raise SettingError(
            f"{key}: {pattern}: {lost}: a link to nothing; remove it, or restore what it names"
        )
    if not files:
        hint = f"; to read all files of the folder, write {(pattern or '.').rstrip('/')}/*" if paths else ""
        raise SettingError(f"{key}: {pattern}: no such file{hint}")
    return {path.relative_to(root).as_posix(): path for path in files}


def _matches(folder: Path, parts: tuple[str, ...], seen: set[tuple[str, int]]) -> set[Path]:
    """What lies under a folder and matches the parts of a pattern.

    seen: the folders that `**` was in already, as the system knows them, and the parts that were left then.
    pathlib's own `**` passes over linked folders, and over those that cannot be read.
    """
    first, *others = parts
    rest = tuple(others)
    if first == "**":
        here = (os.path.realpath(folder), len(parts))
        if here in seen:
            return set()
        seen.add(here)
        inner = [_matches(one, parts, seen) for one in _entries(folder) if one.is_dir()]
        return _matches(folder, rest or ("*",), seen).union(*inner)
    if not glob.has_magic(first):
        found = [folder / first] if os.path.lexists(folder / first) else []
    else:
        found = [one for one in _entries(folder) if fnmatchcase(one.name, first)]
    if not rest:
        return set(found)
    return set().union(*(_matches(one, rest, seen) for one in found if one.is_dir()))


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, links last: `**` reads a folder under its own name rather than a link's."""
    return (
        sorted(folder.iterdir(), key=lambda path: (path.is_symlink(), path.name)) if folder.is_dir() else []
    )


def located(path: str, key: str) -> Path:
    """A path of params.yaml, `~` replaced. InputError, naming its `key`, for what can be no path here."""
    try:
        found = Path(path).expanduser()
        found.exists()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(f"{key}: {path[:60]}: no such file: {reason}") from None
    try:
        check_kind(path, found)
    except InputError as error:
        raise SettingError(f"{key}: {error}") from None
    return found


def check_kind(name: str, path: Path) -> None:
    """Raise InputError for what is there, no file and no folder: reading it may wait, or never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        kind = "a pipe" if path.is_fifo() else "a socket" if path.is_socket() else "a device"
        raise InputError(f"{name}: {kind}, not a file; write what it gives to a file, and name that")


def _fixed_part(pattern: Path) -> Path:
    for parent in reversed(pattern.parents):
        if glob.has_magic(parent.name) and not parent.exists():
            return parent.parent
    return pattern.parent
