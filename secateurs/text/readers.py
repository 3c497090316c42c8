"""Documents out of files, one reader a format.

A reader takes the files of a source by name and yields documents whose ids start with the file's name, so
that an id stays the same when other files come or go. It raises InputError naming file and line.
"""

import hashlib
import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice

from secateurs.errors import InputError
from secateurs.files.decoding import parse_json, without_halves
from secateurs.files.streams import Files, lines, whole_text
from secateurs.settings.sources import FieldReader, Reader
from secateurs.text.documents import Document
from secateurs.text.mediawiki import read_mediawiki
from secateurs.text.source_code import read_docstrings, read_python
from secateurs.text.tables import read_csv, read_jsonl, read_parquet

# Characters of documents that are kept before it is known how many there are; then the files are read again
# for those that are wanted. And all that may be wanted, because they are held together.
_KEPT, MOST_TEXT = 2**28, 2**31

# Characters that are looked at before anything is computed, in about a second.
_CHECKED = 2**26
_BY_ROWS = frozenset({"jsonl", "csv", "parquet", "lines", "snippets"})

# The length is bounded, because otherwise a text that begins it often would take quadratic time.
_STOCK_SENTENCE = re.compile(r" We refer to Wikipedia articles on [^.]{0,200} for help\.")


def read(files: Files, reader: Reader, limit: int) -> list[Document]:
    """At most `limit` documents of the files, without empty ones and repetitions, with unique ids.

    They are spread evenly over all documents in the order of the files' names. A wiki dump is the exception:
    it can be far larger than what is wanted of it, so its first articles are taken. Files are read as
    streams, a second time where they hold far more than is wanted. Raises InputError naming file and line,
    and where the documents are more than a memory should hold.
    """
    if reader.format == "mediawiki":
        return list(islice(_documents(files, reader), limit))
    kept: list[Document] | None = []
    held = count = 0
    for count, item in enumerate(_documents(files, reader), start=1):
        if kept is None:
            continue
        kept.append(item)
        held += len(item.text)
        if held > _KEPT and count > limit:
            kept = None
        else:
            _check_size(held, limit)
    if kept is not None:
        return spread(kept, limit)
    chosen, held = [], 0
    places = {index * count // limit for index in range(limit)}
    for place, item in enumerate(_documents(files, reader)):
        if place in places:
            chosen.append(item)
            held += len(item.text)
            _check_size(held, limit)
    return chosen


def check_documents(files: Files, reader: Reader) -> bool:
    """Whether the files have text; InputError where they show already that they cannot be read.

    Looked at are the first row of each file and, of formats with a document a line or row, all others up to
    _CHECKED characters; of the rest as much as it takes to find a text.
    """
    if isinstance(reader, FieldReader):
        for name, content in files.items():
            next(_FIELD_READERS[reader.format]({name: content}, reader.field), None)
    held = 0
    for item in _documents(files, reader):
        held += len(item.text)
        if held > _CHECKED or reader.format not in _BY_ROWS:
            break
    return held > 0


def _check_size(held: int, limit: int) -> None:
    if held > MOST_TEXT:
        raise InputError(
            f"its documents have more than {MOST_TEXT:,} characters together, which are held in memory; "
            f"lower `documents: {limit}`"
        )


def _documents(files: Files, reader: Reader) -> Iterator[Document]:
    ordered = dict(sorted(files.items()))
    if isinstance(reader, FieldReader):
        return _distinct(_FIELD_READERS[reader.format](ordered, reader.field))
    return _distinct(_PLAIN_READERS[reader.format](ordered))


def spread(documents: list[Document], limit: int) -> list[Document]:
    """`limit` of the documents at even distances, or all if there are no more."""
    if len(documents) <= limit:
        return documents
    return [documents[index * len(documents) // limit] for index in range(limit)]


def read_text(files: Files) -> Iterator[Document]:
    """A file is a document."""
    for name, content in files.items():
        yield Document(name, whole_text(name, content))


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
    held = 0
    for name, number, line in lines(files):
        fields = line.split("\t", 2)
        if len(fields) != 3:
            raise InputError(
                f"{name}:{number}: {len(fields)} fields; a snippet has an id, a score and a text, "
                "separated by tabs"
            )
        document = f"{name}:{fields[0].partition('_')[0]}"
        text = html.unescape(fields[2]).strip()
        joined.setdefault(document, []).append(text)
        held += len(text)
        _check_size(held, len(joined))
    for document, texts in joined.items():
        yield Document(document, " ".join(texts))


def read_worked_answers(files: Files) -> Iterator[Document]:
    """JSON of subject -> prompt; each `Q: … A: …` of a prompt is a document.

    Left out: the prompt's instruction, and the sentence about Wikipedia that lm-eval has in most answers.
    """
    for name, content in files.items():
        for subject, prompt in _prompts(name, whole_text(name, content)).items():
            pieces = re.split(r"(?<!\n)\n+(?=Q: )", prompt)
            answered = [piece.strip() for piece in pieces if re.match(r"Q: [\s\S]*\nA: ", piece)]
            for number, piece in enumerate(answered):
                yield Document(f"{name}:{subject}:{number}", _STOCK_SENTENCE.sub("", piece))


def _prompts(name: str, text: str) -> dict[str, str]:
    prompts = parse_json(name, text)
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise InputError(f"{name}: not a JSON object of subject -> text; for other files set another reader")
    return prompts


def _distinct(documents: Iterable[Document]) -> Iterator[Document]:
    """Documents with text not seen before; an id used again gets `#2`, `#3` and so on."""
    # By hash: a set of the texts themselves would hold all of them.
    texts: set[bytes] = set()
    uses: dict[str, int] = {}
    for item in documents:
        text = without_halves(item.text).strip()
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if not text or digest in texts:
            continue
        texts.add(digest)
        uses[item.document] = uses.get(item.document, 0) + 1
        suffix = "" if uses[item.document] == 1 else f"#{uses[item.document]}"
        yield replace(item, document=without_halves(item.document) + suffix, text=text)


_PLAIN_READERS: dict[str, Callable[[Files], Iterator[Document]]] = {
    "text": read_text,
    "lines": read_lines,
    "snippets": read_snippets,
    "mediawiki": read_mediawiki,
    "python": read_python,
    "docstrings": read_docstrings,
    "worked_answers": read_worked_answers,
}
_FIELD_READERS: dict[str, Callable[[Files, str], Iterator[Document]]] = {
    "csv": read_csv,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
}
