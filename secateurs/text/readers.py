"""Documents out of files, one reader a format.

A reader takes the files of a source by name and yields documents whose ids start with the file's name, so
that an id stays the same when other files come or go. It raises InputError naming file and line.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from secateurs.errors import InputError
from secateurs.files.decoding import decode, lines, parse_json, unpacked, without_halves
from secateurs.settings.sources import FieldReader, Reader
from secateurs.text.documents import Document
from secateurs.text.mediawiki import read_mediawiki
from secateurs.text.source_code import read_docstrings, read_python
from secateurs.text.tables import read_csv, read_jsonl, read_parquet

Files = Mapping[str, bytes]

# The length is bounded, because otherwise a text that begins it often would take quadratic time.
_STOCK_SENTENCE = re.compile(r" We refer to Wikipedia articles on [^.]{0,200} for help\.")


def read(files: Files, reader: Reader, limit: int) -> list[Document]:
    """At most `limit` documents of the files, without empty ones and repetitions, with unique ids.

    They are spread evenly over all documents in the order of the files' names. A wiki dump is the exception:
    it can be far larger than what is wanted of it, so its first articles are taken.
    """
    ordered = {name: unpacked(name, data) for name, data in sorted(files.items())}
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
    for name, number, line in lines(files):
        yield Document(f"{name}:{number}", line)


def read_snippets(files: Files) -> Iterator[Document]:
    """Lines of id, score and text, separated by tabs.

    Successive lines whose ids share what stands before `_` (`7_1`, `7_2`) are one document; an id without
    `_` is a document of its own.
    """
    joined: dict[str, list[str]] = {}
    for name, number, line in lines(files):
        fields = line.split("\t", 2)
        if len(fields) != 3:
            raise InputError(
                f"{name}:{number}: {len(fields)} fields; a snippet has an id, a score and a text, "
                "separated by tabs"
            )
        document = f"{name}:{fields[0].partition('_')[0]}"
        joined.setdefault(document, []).append(html.unescape(fields[2]).strip())
    for document, texts in joined.items():
        yield Document(document, " ".join(texts))


def read_worked_answers(files: Files) -> Iterator[Document]:
    """JSON of subject -> prompt; each `Q: … A: …` of a prompt is a document.

    Left out: the prompt's instruction, and the sentence about Wikipedia that lm-eval has in most answers.
    """
    for name, data in files.items():
        for subject, prompt in _prompts(name, data).items():
            pieces = re.split(r"(?<!\n)\n+(?=Q: )", prompt)
            answered = [piece.strip() for piece in pieces if re.match(r"Q: [\s\S]*\nA: ", piece)]
            for number, piece in enumerate(answered):
                yield Document(f"{name}:{subject}:{number}", _STOCK_SENTENCE.sub("", piece))


def _prompts(name: str, data: bytes) -> dict[str, str]:
    prompts = parse_json(name, decode(name, data))
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise InputError(f"{name}: not a JSON object of subject -> text; for other files set another reader")
    return prompts


def _distinct(documents: Iterable[Document]) -> Iterator[Document]:
    """Documents with text not seen before; an id used again gets `#2`, `#3` and so on."""
    texts: set[str] = set()
    uses: dict[str, int] = {}
    for item in documents:
        text = without_halves(item.text).strip()
        if not text or text in texts:
            continue
        texts.add(text)
        uses[item.document] = uses.get(item.document, 0) + 1
        suffix = "" if uses[item.document] == 1 else f"#{uses[item.document]}"
        yield replace(item, document=without_halves(item.document) + suffix, text=text)


_PLAIN_READERS: dict[str, Callable[[Files], Iterator[Document]]] = {
    "text": read_text,
    "lines": read_lines,
    "snippets": read_snippets,
    "python": read_python,
    "docstrings": read_docstrings,
    "worked_answers": read_worked_answers,
}
_FIELD_READERS: dict[str, Callable[[Files, str], Iterator[Document]]] = {
    "csv": read_csv,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
}
