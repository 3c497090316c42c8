"""Bytes into text and JSON; whatever cannot be one says which file, why, and what to do about it."""

import json
import re
from typing import Any

from secateurs.errors import InputError

_GZIP = b"\x1f\x8b"
_POINTER = b"version https://git-lfs.github.com/spec/"
# Of one file. What unpacks to more is a mistake or an attack.
MOST_UNPACKED = 2**31

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


POINTER_REMEDY = "a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository"


def is_pointer(data: bytes) -> bool:
    """Whether this is the start of what Git LFS leaves in place of a file that it has not fetched."""
    return data.startswith(_POINTER)


def is_gzip(data: bytes) -> bool:
    """Whether this is the start of a gzip file."""
    return data.startswith(_GZIP)


def decode(name: str, data: bytes) -> str:
    """UTF-8 text, with any mark at its start left out; InputError at other bytes."""
    check_zeros(name, data[:64], data.count(0), len(data))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}:{line}: {_no_text(error, data[:64])}") from None


def decode_line(name: str, number: int, line: bytes, start: bytes) -> str:
    """A line, its number counted from 1, of a file that begins with `start`; as decode."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}:{number}: {_no_text(error, start)}") from None


def check_zeros(name: str, start: bytes, zeros: int, count: int) -> None:
    """Raise InputError where over a tenth of the `count` bytes of a file are zero, as in no text."""
    if zeros * 10 > count and not start.startswith(tuple(_KINDS)):
        raise InputError(
            f"{name}: not UTF-8 text: {zeros} of its {count} bytes are zero, as in UTF-16 and in files "
            "that are no text; save the file as UTF-8"
        )


def _no_text(error: UnicodeDecodeError, start: bytes) -> str:
    kind = next((kind for mark, kind in _KINDS.items() if start.startswith(mark)), None)
    remedy = f"the file is {kind}" if kind else "save the file as UTF-8"
    return f"not UTF-8 text: {error.reason}; {remedy}"


class _TwiceError(ValueError):
    """A key that stands twice in one object."""


def parse_json(where: str, text: str, once: bool = True) -> Any:
    """The value of a JSON text; InputError, naming `where`, at anything else and at one nested too deeply.

    once: a key that stands twice in an object is refused too; otherwise the last one counts.
    """
    try:
        return json.loads(text, object_pairs_hook=_object if once else None)
    except _TwiceError as error:
        raise InputError(f"{where}: key {error} stands twice in one object; remove one of them") from None
    except RecursionError:
        raise InputError(f"{where}: JSON nested too deeply to be read; flatten it") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON: {error}; correct or remove it") from None
    except ValueError:
        # The one other that there is.
        raise InputError(f"{where}: JSON with a number of over 4,300 digits; put it in quotes") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(f"{next(key for key in keys if keys.count(key) > 1)!r:.60}")
    return found


def without_halves(text: str) -> str:
    """The text with U+FFFD in place of each half of a surrogate pair that lacks its other half.

    JSON can hold half an emoji (`"\\ud83d"`), where a text was cut by length; UTF-8 cannot.
    """
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
