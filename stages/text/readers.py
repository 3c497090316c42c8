"""Documents out of files, one reader a format.

A reader takes the files of a source by name and yields documents whose ids start with the file's name, so
that an id stays the same when other files come or go. It raises InputError naming file and line.
"""

import html
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.artifacts import Document
from stages.common.errors import InputError
from stages.common.params import FieldReader, Reader
from stages.text.mediawiki import read_mediawiki
from stages.text.source_code import read_docstrings, read_python

Files = Mapping[str, bytes]

_STOCK_SENTENCE = re.compile(r" We refer to Wikipedia articles on [^.]* for help\.")


def read(files: Files, reader: Reader, limit: int) -> list[Document]:
    """At most `limit` documents of the files, without empty ones and repetitions, with unique ids.

    They are spread evenly over all documents in the order of the files' names. A wiki dump is the exception:
    it can be far larger than what is wanted of it, so its first articles are taken.
    """
    ordered = dict(sorted(files.items()))
    if isinstance(reader, FieldReader):
        found = _FIELD_READERS[reader.format](ordered, reader.field)
    elif reader.format == "mediawiki":
        return list(islice(_distinct(read_mediawiki(ordered)), limit))
    else:
        found = _PLAIN_READERS[reader.format](ordered)
    return spread(list(_distinct(found)), limit)


def spread(documents: list[Document], limit: int) -> list[Document]:
    """`limit` of the documents at even distances, or all if there are no more."""
    if len(documents) <= limit:
        return documents
    return [documents[index * len(documents) // limit] for index in range(limit)]


def read_text(files: Files) -> Iterator[Document]:
    """A file is a document."""
    for name, data in files.items():
        yield Document(name, decode(name, data))


def read_lines(files: Files) -> Iterator[Document]:
    """A line is a document."""
    for name, number, line in _lines(files):
        yield Document(f"{name}:{number}", line)


def read_snippets(files: Files) -> Iterator[Document]:
    """Lines of id, score and text, separated by tabs.

    Successive lines whose ids share what stands before `_` (`7_1`, `7_2`) are one document; an id without
    `_` is a document of its own.
    """
    joined: dict[str, list[str]] = {}
    for name, number, line in _lines(files):
        fields = line.split("\t", 2)
        if len(fields) != 3:
            raise InputError(f"{name}:{number}: {len(fields)} fields; a snippet has an id, a score, a text")
        document = f"{name}:{fields[0].partition('_')[0]}"
        joined.setdefault(document, []).append(html.unescape(fields[2]).strip())
    for document, texts in joined.items():
        yield Document(document, " ".join(texts))


def read_jsonl(files: Files, field: str) -> Iterator[Document]:
    """A field of each line's JSON object."""
    for name, number, line in _lines(files):
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InputError(f"{name}:{number}: not valid JSON: {error}") from None
        if not isinstance(item, dict) or not isinstance(item.get(field), str):
            has = ", ".join(item) if isinstance(item, dict) else f"a {type(item).__name__}"
            raise InputError(f"{name}:{number}: no text field {field!r}; the line has {has}")
        yield Document(f"{name}:{number}", item[field])


def read_parquet(files: Files, field: str) -> Iterator[Document]:
    """A column of text; empty values are passed over."""
    for name, data in files.items():
        try:
            table = pq.ParquetFile(io.BytesIO(data))
        except pa.ArrowInvalid as error:
            raise InputError(f"{name}: not a Parquet file: {error}") from None
        names = table.schema_arrow.names
        if field not in names:
            raise InputError(f"{name}: no column {field!r}; it has {', '.join(names)}")
        column = table.read([field]).column(field)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise InputError(f"{name}: column {field!r} holds {column.type}; it must be text")
        for number, text in enumerate(column.to_pylist()):
            yield Document(f"{name}:{number}", text or "")


def read_worked_answers(files: Files) -> Iterator[Document]:
    """JSON of subject -> prompt; each `Q: … A: …` of a prompt is a document.

    Left out: the prompt's instruction, and the sentence about Wikipedia that lm-eval has in most answers.
    """
    for name, data in files.items():
        for subject, prompt in _prompts(name, data).items():
            pieces = re.split(r"\n+(?=Q: )", prompt)
            answered = [piece.strip() for piece in pieces if re.match(r"Q: [\s\S]*\nA: ", piece)]
            for number, piece in enumerate(answered):
                yield Document(f"{name}:{subject}:{number}", _STOCK_SENTENCE.sub("", piece))


def _prompts(name: str, data: bytes) -> dict[str, str]:
    try:
        prompts: Any = json.loads(decode(name, data))
    except ValueError as error:
        raise InputError(f"{name}: not valid JSON: {error}") from None
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise InputError(f"{name}: not a JSON object of subject -> text")
    return prompts


def decode(name: str, data: bytes) -> str:
    """UTF-8 text, with any mark at its start left out; InputError at other bytes."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}:{line}: not UTF-8 text: {error.reason}") from None


def _lines(files: Files) -> Iterator[tuple[str, int, str]]:
    """File name, line number from 1, and the line, for lines that are not blank."""
    for name, data in files.items():
        # Not splitlines: it also breaks at separators that JSON allows within a string.
        for number, line in enumerate(decode(name, data).split("\n"), start=1):
            if line.strip():
                yield name, number, line.rstrip("\r")


def _distinct(documents: Iterable[Document]) -> Iterator[Document]:
    """Documents with text not seen before; an id used again gets `#2`, `#3` and so on."""
    texts: set[str] = set()
    uses: dict[str, int] = {}
    for item in documents:
        text = item.text.strip()
        if not text or text in texts:
            continue
        texts.add(text)
        uses[item.document] = uses.get(item.document, 0) + 1
        suffix = "" if uses[item.document] == 1 else f"#{uses[item.document]}"
        yield replace(item, document=item.document + suffix, text=text)


_PLAIN_READERS: dict[str, Callable[[Files], Iterator[Document]]] = {
    "text": read_text,
    "lines": read_lines,
    "snippets": read_snippets,
    "python": read_python,
    "docstrings": read_docstrings,
    "worked_answers": read_worked_answers,
}
_FIELD_READERS: dict[str, Callable[[Files, str], Iterator[Document]]] = {
    "jsonl": read_jsonl,
    "parquet": read_parquet,
}
