"""Bytes into text and JSON; whatever cannot be one says which file, why, and what to do about it."""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from secateurs.errors import InputError

_GZIP = b"\x1f\x8b"
_POINTER = b"version https://git-lfs.github.com/spec/"
# Of one file. What unpacks to more is a mistake or an attack, and the text of all files is held in memory.
_MOST_UNPACKED = 2**31
_PIECE = 2**20

# What a file that is no text begins with, what it is then, and what to do.
_KINDS = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"BZh": "compressed by bzip2; unpack it, or use gzip",
    b"\xfd7zXZ\x00": "compressed by xz; unpack it, or use gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it, or use gzip",
    b"PAR1": "a Parquet file; set `reader: {format: parquet, field: …}`",
    b"%PDF": "a PDF; convert it to text",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def unpacked(name: str, data: bytes) -> bytes:
    """The bytes of a file, those of a gzip file unpacked.

    Raises InputError for a pointer of Git LFS, and for a gzip file that is damaged or unpacks to over 2 GiB.
    """
    if is_pointer(data):
        raise InputError(f"{name}: {POINTER_REMEDY}")
    if not data.startswith(_GZIP):
        return data
    content = io.BytesIO()
    try:
        with gzip.open(io.BytesIO(data)) as stream:
            while piece := stream.read(_PIECE):
                content.write(piece)
                if content.tell() > _MOST_UNPACKED:
                    raise InputError(f"{name}: unpacks to more than {_MOST_UNPACKED:,} bytes; split the file")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: a damaged gzip file: {error}; fetch it again") from None
    return content.getvalue()


POINTER_REMEDY = "a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository"


def is_pointer(data: bytes) -> bool:
    """Whether this is the start of what Git LFS leaves in place of a file that it has not fetched."""
    return data.startswith(_POINTER)


def decode(name: str, data: bytes) -> str:
    """UTF-8 text, with any mark at its start left out; InputError at other bytes."""
    zeros = data.count(0)
    if zeros * 10 > len(data) and not data.startswith(tuple(_KINDS)):
        raise InputError(
            f"{name}: not UTF-8 text: {zeros} of its {len(data)} bytes are zero, as in UTF-16 and in files "
            "that are no text; save the file as UTF-8"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        kind = next((kind for start, kind in _KINDS.items() if data.startswith(start)), None)
        remedy = f"the file is {kind}" if kind else "save the file as UTF-8"
        raise InputError(f"{name}:{line}: not UTF-8 text: {error.reason}; {remedy}") from None


def lines(files: Mapping[str, bytes]) -> Iterator[tuple[str, int, str]]:
    """File name, line number from 1, and the line, for lines that are not blank."""
    for name, data in files.items():
        # Not splitlines: it also breaks at separators that JSON allows within a string.
        for number, line in enumerate(decode(name, data).split("\n"), start=1):
            if line.strip():
                yield name, number, line.rstrip("\r")


def parse_json(where: str, text: str) -> Any:
    """The value of a JSON text; InputError, naming `where`, at anything else and at one nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{where}: JSON nested too deeply to be read; flatten it") from None
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON: {error}; correct or remove it") from None


def without_halves(text: str) -> str:
    """The text with U+FFFD in place of each half of a surrogate pair that lacks its other half.

    JSON can hold half an emoji (`"\\ud83d"`), where a text was cut by length; UTF-8 cannot.
    """
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
