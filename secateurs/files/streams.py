"""Files read as streams, so that what is held of them does not grow with their size."""

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecoder
from pathlib import Path
from typing import IO, Any

from secateurs.errors import InputError
from secateurs.files.decoding import (
    MOST_UNPACKED,
    POINTER_REMEDY,
    check_zeros,
    decode,
    decode_line,
    is_gzip,
    is_pointer,
    parse_json,
)

# What is in memory already, or where a file is.
Files = Mapping[str, bytes | Path]
# Of a file that is one document, or of one line: far more than a person writes in one piece.
MOST_BYTES = 2**28
_PIECE = 2**20
_ONE_A_LINE = "each line must be one JSON object, so convert the file: `jq -c"
_TO_LINES = "FILE > FILE.jsonl`"


@contextmanager
def opened(name: str, content: bytes | Path) -> Iterator[Any]:
    """A file's bytes as an io.BufferedReader, those of a gzip file unpacked.

    Raises InputError, naming it, for a file that cannot be read, for a pointer of Git LFS, and for a gzip
    file that is damaged or unpacks to more than MOST_UNPACKED.
    """
    try:
        found = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from None
    with io.BufferedReader(found) as raw:
        start = raw.peek(64)
        if is_pointer(start):
            raise InputError(f"{name}: {POINTER_REMEDY}")
        if not is_gzip(start):
            yield raw
            return
        try:
            yield io.BufferedReader(_Unpacking(name, raw))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{name}: a damaged gzip file: {error}; fetch it again") from None


class _Unpacking(io.RawIOBase):
    """What a gzip file unpacks to, no more than MOST_UNPACKED of it."""

    def __init__(self, name: str, packed: IO[bytes]) -> None:
        self.name, self.stream, self.count = name, gzip.GzipFile(fileobj=packed), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        piece = self.stream.read(len(buffer))
        buffer[: len(piece)] = piece
        self.count += len(piece)
        if self.count > MOST_UNPACKED:
            raise InputError(f"{self.name}: unpacks to more than {MOST_UNPACKED:,} bytes; split the file")
        return len(piece)


def whole(name: str, content: bytes | Path) -> bytes:
    """All bytes of a file that is read in one piece. InputError as `opened`, and for more than MOST_BYTES."""
    with opened(name, content) as stream:
        data: bytes = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{name}: more than {MOST_BYTES:,} bytes, which are read as one piece; split the file, or set a "
            "reader that takes it line by line"
        )
    return data


def whole_text(name: str, content: bytes | Path) -> str:
    """The text of a file that is read in one piece."""
    return decode(name, whole(name, content))


def lines(files: Files) -> Iterator[tuple[str, int, str]]:
    """File name, line number from 1, and the line, for lines that are not blank."""
    for name, content in files.items():
        for number, line in enumerate(text_lines(name, content), start=1):
            if line.strip():
                yield name, number, line.rstrip("\n").rstrip("\r")


def json_lines(files: Files) -> Iterator[tuple[str, Any]]:
    """`file:line` and the value of each line of JSON.

    Raises InputError for others, and says of JSON that is laid out otherwise how to make lines of it.
    """
    before = ""
    for name, number, line in lines(files):
        first, before = name != before, name
        array = first and line.lstrip().startswith("[")
        try:
            value = parse_json(f"{name}:{number}", line)
        except InputError:
            if not array:
                _check_layout(f"{name}:{number}", line, first)
                raise
            value = []
        if array and isinstance(value, list):
            raise InputError(f"{name}:{number}: begins a JSON array; {_ONE_A_LINE} '.[]' {_TO_LINES}")
        yield f"{name}:{number}", value


def _check_layout(where: str, line: str, first: bool) -> None:
    """Raise InputError where a line is not a JSON value but a part of one, or several."""
    if first and line.strip() == "{":
        raise InputError(f"{where}: begins a JSON object of several lines; {_ONE_A_LINE} . {_TO_LINES}")
    try:
        _, end = JSONDecoder().raw_decode(line.lstrip())
    except (ValueError, RecursionError):
        return
    rest = line.lstrip()[end:].strip()
    if rest == ",":
        raise InputError(f"{where}: ends with a comma, as in a JSON array; take it away, in each line")
    if rest.startswith("{"):
        raise InputError(f"{where}: has several JSON objects; {_ONE_A_LINE} . {_TO_LINES}")


def text_lines(name: str, content: bytes | Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, split at newlines alone, as JSON allows others in a string.

    Raises InputError, naming file and line, at other bytes and at a line of more than MOST_BYTES.
    """
    with opened(name, content) as stream:
        parts: list[bytes] = []
        held = number = zeros = count = 0
        start = b""
        while piece := stream.read(_PIECE):
            zeros, count = zeros + piece.count(0), count + len(piece)
            if count == len(piece):
                start = piece[:64]
                # Said before a line is found wrong, because it is the cause.
                check_zeros(name, start, zeros, count)
            for line in piece.splitlines(keepends=True):
                parts.append(line)
                held += len(line)
                if held > MOST_BYTES:
                    raise InputError(
                        f"{name}:{number + 1}: a line of more than {MOST_BYTES:,} bytes; break it"
                    )
                if line.endswith(b"\n"):
                    number += 1
                    yield decode_line(name, number, b"".join(parts), start)
                    parts, held = [], 0
        check_zeros(name, start, zeros, count)
        if parts:
            yield decode_line(name, number + 1, b"".join(parts), start)
