"""Documents out of a field of each row: JSON lines, CSV, Parquet.

In JSON lines and Parquet the field may be a conversation, a list of turns with a role and a content.
"""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from secateurs.errors import InputError
from secateurs.files.streams import MOST_BYTES, Files, json_lines, opened, text_lines
from secateurs.text.conversations import to_json
from secateurs.text.documents import Document

MOST_GROUP = 2**31
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def read_jsonl(files: Files, field: str) -> Iterator[Document]:
    """A field of each line's JSON object; one that is null is passed over."""
    for where, item in json_lines(files):
        if not isinstance(item, dict):
            raise InputError(f"{where}: a {type(item).__name__}; each line must be one JSON object")
        if field not in item:
            raise InputError(f"{where}: no field {field!r}; the line has {', '.join(item) or 'none'}")
        text = item[field]
        if isinstance(text, list):
            yield Document(where, to_json(f"{where}: field {field!r}", text), chat=True)
            continue
        if not isinstance(text, str | None):
            raise InputError(
                f"{where}: field {field!r} holds a {type(text).__name__}; it must be text, so name another "
                "field or convert it"
            )
        yield Document(where, text or "")


def read_csv(files: Files, field: str) -> Iterator[Document]:
    """A column of a CSV file (commas, double quotes) whose first row has the columns' names.

    Documents are numbered by row, from 1 below that first one.
    """
    csv.field_size_limit(MOST_BYTES)
    for name, content in files.items():
        # csv wants lines that end at carriage returns too.
        split = (part for line in text_lines(name, content) for part in io.StringIO(line, newline=""))
        rows = csv.reader(split, strict=True)
        try:
            header = next(rows, [])
            column = _column(name, header, field)
            for number, row in enumerate((row for row in rows if row), start=1):
                if len(row) != len(header):
                    raise InputError(
                        f"{name}:{rows.line_num}: {len(row)} fields; the first row names {len(header)}, so "
                        "put double quotes around text with commas"
                    )
                yield Document(f"{name}:{number}", row[column])
        except csv.Error as error:
            raise InputError(
                f"{name}:{rows.line_num}: not valid CSV: {error}; write quotes inside a text twice"
            ) from None


def _column(name: str, header: list[str], field: str) -> int:
    _check_one(name, header, field)
    if field in header:
        return header.index(field)
    there = f"it has {', '.join(header)}" if header else "it is empty"
    other = next((word for mark, word in _DELIMITERS.items() if len(header) == 1 and mark in header[0]), None)
    hint = f"; it seems to be separated by {other}: write it with commas" if other else ""
    raise InputError(f"{name}: no column {field!r}; {there}{hint}")


def _check_one(name: str, columns: list[str], field: str) -> None:
    if columns.count(field) > 1:
        raise InputError(f"{name}: {columns.count(field)} columns are named {field!r}; rename all but one")


def read_parquet(files: Files, field: str) -> Iterator[Document]:
    """A column of text or of conversations, some rows at a time; empty values are passed over."""
    for name, content in files.items():
        with opened(name, content) as stream, _naming(name):
            # A Parquet file says at its end what is in it.
            source = stream if stream.seekable() else io.BytesIO(stream.read())
            yield from _rows(name, source, field)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Of a file whose head is sound and whose pages are not, pyarrow says so by OSError; text that is no
    UTF-8 shows only when it becomes a string."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{name}: not a Parquet file, or damaged: {reason}; write it again") from None


def _rows(name: str, source: IO[bytes], field: str) -> Iterator[Document]:
    table = pq.ParquetFile(source, pre_buffer=False)
    names = table.schema_arrow.names
    if field not in names:
        raise InputError(f"{name}: no column {field!r}; it has {', '.join(names)}")
    _check_one(name, names, field)
    kind = table.schema_arrow.field(field).type
    chat = _is_chat(kind)
    _check_groups(name, table.metadata, field)
    if not chat:
        _check_type(name, field, kind)
        # A text that many rows have is held once: a file of 18 kB can say that it has 10 GB of one.
        table = pq.ParquetFile(source, read_dictionary=[field], pre_buffer=False)
    first = 0
    for batch in table.iter_batches(_ROWS_OF_CHAT if chat else _ROWS, columns=[field]):
        for number, value in enumerate(_values(batch.column(0)), start=first):
            where = f"{name}:{number}"
            yield Document(where, to_json(where, value or []) if chat else value or "", chat)
        first += len(batch)


# Rows at a time: short of texts, because they are in memory once more as Python's own.
_ROWS, _ROWS_OF_CHAT = 1024, 64


def _values(column: pa.Array) -> Iterator[Any]:
    if not pa.types.is_dictionary(column.type):
        yield from column.to_pylist()
        return
    texts = column.dictionary.cast(pa.large_string()).to_pylist()
    yield from (None if index is None else texts[index] for index in column.indices.to_pylist())


def _check_groups(name: str, metadata: pq.FileMetaData, field: str) -> None:
    """Raise InputError where a group of rows has more of a column than should be in memory at once."""
    for group in range(metadata.num_row_groups):
        columns = (metadata.row_group(group).column(index) for index in range(metadata.num_columns))
        size = sum(
            column.total_uncompressed_size
            for column in columns
            if column.path_in_schema.split(".")[0] == field
        )
        if size > MOST_GROUP:
            raise InputError(
                f"{name}: column {field!r} has {size:,} bytes in one row group, of which {MOST_GROUP:,} are "
                "read at most; write the file in smaller row groups"
            )


def _is_chat(kind: pa.DataType) -> bool:
    """Whether a column holds lists of structures with a role and a content."""
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
    if inner is None or not pa.types.is_struct(inner):
        return False
    keys = {inner.field(index).name for index in range(inner.num_fields)}
    return {"role", "content"} <= keys or {"from", "value"} <= keys


def _check_type(name: str, field: str, kind: pa.DataType) -> None:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner):
        return
    joined = "join the parts of each row" if pa.types.is_nested(kind) else "convert it"
    raise InputError(
        f"{name}: column {field!r} holds {kind}; it must be text, so {joined} in a column of text"
    )
