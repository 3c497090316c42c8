"""Documents out of Python sources: the files themselves, or the prose of their docstrings."""

import ast
import warnings
from collections.abc import Iterator

from secateurs.files.streams import Files, whole
from secateurs.text.documents import Document

MINIMUM = 200  # characters: shorter files are empty package markers, shorter docstrings say little
# Bytes: a syntax tree takes a hundred times as many, and no person writes a file of more.
MOST_SOURCE = 2**24

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def read_python(files: Files) -> Iterator[Document]:
    """A file is a document; no valid Python 3, under 200 characters or over 16 MiB is passed over."""
    for name, content in files.items():
        data = whole(name, content)
        if _parse(data) is None:
            continue
        text = data.decode("utf-8-sig", errors="replace")
        if len(text) >= MINIMUM:
            yield Document(name, text)


def read_docstrings(files: Files) -> Iterator[Document]:
    """A docstring of a module, class or function, dedented; the id is `file:qualified.name`."""
    for name, content in files.items():
        tree = _parse(whole(name, content))
        if tree is not None:
            yield from _docstrings(tree, name, "")


def _parse(data: bytes) -> ast.Module | None:
    with warnings.catch_warnings():
        # Old sources have escapes that Python warns about; the text is what matters here.
        warnings.simplefilter("ignore")
        try:
            return ast.parse(data) if len(data) <= MOST_SOURCE else None
        # The last two: nested more deeply than Python's own parser can go.
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _docstrings(node: Documented, name: str, qualified: str) -> Iterator[Document]:
    text = ast.get_docstring(node)
    if text is not None and len(text) >= MINIMUM:
        yield Document(f"{name}:{qualified}", text)
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{qualified}.{child.name}" if qualified else child.name
            yield from _docstrings(child, name, inner)
