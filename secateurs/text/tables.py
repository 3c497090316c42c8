"""Documents out of a field of each row: JSON lines, CSV, Parquet.

In JSON lines and Parquet the field may be a conversation, a list of turns with a role and a content.
"""

import csv
import io
import sys
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from secateurs.errors import InputError
from secateurs.files.decoding import decode, lines, parse_json
from secateurs.text.conversations import to_json
from secateurs.text.documents import Document

_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def read_jsonl(files: Mapping[str, bytes], field: str) -> Iterator[Document]:
    """A field of each line's JSON object; one that is null is passed over."""
    for name, number, line in lines(files):
        where = f"{name}:{number}"
        item = parse_json(where, line)
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


def read_csv(files: Mapping[str, bytes], field: str) -> Iterator[Document]:
    """A column of a CSV file (commas, double quotes) whose first row has the columns' names.

    Documents are numbered by row, from 1 below that first one.
    """
    csv.field_size_limit(sys.maxsize)
    for name, data in files.items():
        rows = csv.reader(io.StringIO(decode(name, data), newline=""), strict=True)
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
    if header.count(field) > 1:
        raise InputError(f"{name}: {header.count(field)} columns are named {field!r}; rename all but one")
    if field in header:
        return header.index(field)
    there = f"it has {', '.join(header)}" if header else "it is empty"
    other = next((word for mark, word in _DELIMITERS.items() if len(header) == 1 and mark in header[0]), None)
    hint = f"; it seems to be separated by {other}: write it with commas" if other else ""
    raise InputError(f"{name}: no column {field!r}; {there}{hint}")


def read_parquet(files: Mapping[str, bytes], field: str) -> Iterator[Document]:
    """A column of text or of conversations; empty values are passed over."""
    for name, data in files.items():
        try:
            table = pq.ParquetFile(io.BytesIO(data))
            names = table.schema_arrow.names
            if field not in names:
                raise InputError(f"{name}: no column {field!r}; it has {', '.join(names)}")
            kind = table.schema_arrow.field(field).type
            column = table.read([field]).column(field)
            if chat := _is_chat(kind):
                texts = column.to_pylist()
            else:
                _check_type(name, field, kind)
                texts = column.cast(pa.large_string()).to_pylist()
        # Of a file whose head is sound and whose pages are not, pyarrow says so by OSError; text that is no
        # UTF-8 shows only when it becomes a string.
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"{name}: not a Parquet file, or damaged: {reason}; write it again") from None
        for number, text in enumerate(texts):
            where = f"{name}:{number}"
            yield Document(where, to_json(where, text or []) if chat else text or "", chat)


def _is_chat(kind: pa.DataType) -> bool:
    """Whether a column holds lists of structures with a role and a content."""
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
    if inner is None or not pa.types.is_struct(inner):
        return False
    return {"role", "content"} <= {inner.field(index).name for index in range(inner.num_fields)}


def _check_type(name: str, field: str, kind: pa.DataType) -> None:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner):
        return
    joined = "join the parts of each row" if pa.types.is_nested(kind) else "convert it"
    raise InputError(
        f"{name}: column {field!r} holds {kind}; it must be text, so {joined} in a column of text"
    )
