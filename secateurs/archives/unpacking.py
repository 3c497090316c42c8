"""The files in a zip or tar archive, one after the other, never more bytes of them than a limit."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from secateurs.errors import InputError

# An archive may unpack to MOST_TIMES its own size: text is seldom packed to a twentieth of its size, a bomb
# to a thousandth. It may always unpack to AT_LEAST bytes, because small archives of repetitive text exist.
MOST_TIMES, AT_LEAST = 100, 256 * 2**20
_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)


class TooLargeError(InputError):
    """An archive unpacks to more than most_bytes."""


def most_bytes(archive: Path) -> int:
    """The number of bytes that an archive may unpack to."""
    return max(MOST_TIMES * archive.stat().st_size, AT_LEAST)


def unpacked(
    archive: Path, wanted: Callable[[str], bool], where: str, most: int
) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of the wanted files, each a stream that must be read before the next one is asked for.

    where: what errors call the archive. Raises TooLargeError where the wanted files together, or what is
    unpacked to reach them, are more than `most` bytes, before they are; InputError for what is no archive or
    damaged.
    """
    left = most
    files = _zip_files if zipfile.is_zipfile(archive) else _tar_files
    try:
        for name, size, file in files(archive, wanted, most):
            left -= size
            if left < 0:
                raise TooLargeError(f"{where}: {_too_large(most)}")
            with file:
                yield name, file
    except TooLargeError:
        raise
    except _TooFarError:
        raise TooLargeError(f"{where}: {_too_large(most)}") from None
    except (*_DAMAGED, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{where}: neither a zip nor a tar archive that can be read: {error}") from None


def _too_large(most: int) -> str:
    return f"unpacks to more than {most:,} bytes, which no archive of its size should"


def _zip_files(
    archive: Path, wanted: Callable[[str], bool], most: int
) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as zipped:
        for item in zipped.infolist():
            # No more is unpacked of a file than its declared size.
            if not item.is_dir() and wanted(item.filename):
                yield item.filename, item.file_size, zipped.open(item)


def _tar_files(
    archive: Path, wanted: Callable[[str], bool], most: int
) -> Iterator[tuple[str, int, IO[bytes]]]:
    with archive.open("rb") as packed:
        start = packed.read(6)
    opener = next((one for magic, one in _OPENERS.items() if start.startswith(magic)), None)
    stream = cast(IO[bytes], archive.open("rb") if opener is None else opener(archive))
    # To reach a file of a tar archive, or read a header, all before it must be unpacked.
    with stream, tarfile.open(fileobj=_Bounded(stream, most)) as tarred:
        for item in tarred:
            if item.isfile() and wanted(item.name):
                file = tarred.extractfile(item)
                yield item.name, item.size, file or io.BytesIO()


class _TooFarError(Exception):
    """A read or a seek beyond the limit."""


class _Bounded(io.RawIOBase):
    """A stream that is not read beyond a number of bytes, however many are asked for at once."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self.stream, self.most = stream, most

    def read(self, size: int = -1) -> bytes:
        if size < 0 or self.stream.tell() + size > self.most:
            raise _TooFarError
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset > self.most:
            raise _TooFarError
        return self.stream.seek(offset)

    def tell(self) -> int:
        return self.stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
