"""Plain text of the articles in a MediaWiki dump.

Parsing takes time that grows with the square of what is opened and never closed, and an article is parsed
whole: what is beyond any real article is refused instead.
"""

import bz2
import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any
from xml.etree import ElementTree

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Tag, Text, Wikilink

from secateurs.errors import InputError
from secateurs.files.streams import Files, opened
from secateurs.text.documents import Document

# Sections without running text: lists of links and sources.
_BACK_MATTER = {
    *("see also", "references", "notes", "external links", "further reading", "bibliography", "sources"),
    *("footnotes", "citations", "notes and references", "works cited", "gallery"),
}
_DROPPED_TAGS = {"ref", "table", "gallery", "math", "timeline", "imagemap", "score", "references", "div"}
# The beginnings and ends of what is taken out before parsing: most of an article's markup is in its
# references.
_REFERENCE = re.compile(r"<ref\b|<!--", re.IGNORECASE)
_ENDS = {name: re.compile(name, re.IGNORECASE) for name in (">", r"</ref\s*>", "-->")}
# What opens, by its kind, and what closes it. Tags that need no closing are left out.
_SINGLE = "br|wbr|hr|meta|link|img|li|dt|dd|th|td|tr"
_MARKS = re.compile(
    rf"(?P<open>\{{\{{|\[\[|\[|\{{\||<!--|<(?!(?:{_SINGLE})\b)(?P<tag>[a-z]+))"
    r"|(?P<close>\}\}|\]\]|\]|\|\}|-->|/>|</(?P<end>[a-z]+))",
    re.IGNORECASE,
)
# A tag of those that need no closing, cut off by the next one, or with a quote that does not end.
_UNENDED = re.compile(rf"""<(?:{_SINGLE})\b(?:[^<>"']|"[^"<]*"|'[^'<]*')*+(?=["'<]|\Z)""", re.IGNORECASE)
_HEADING_LINE, _EQUALS = re.compile(r"^=.*$", re.MULTILINE), re.compile("=+")
_CLOSES = {"}}": "{{", "]]": "[[", "]": "[", "|}": "{|", "-->": "<!--"}
MOST_OPEN = 500
# MediaWiki itself takes articles of 2 MiB.
MOST_CHARACTERS = 4 * 2**20
# Between the ends of two pages of a dump, in bytes: all that one page makes in memory.
MOST_PAGE = 256 * 2**20
_MEDIA = re.compile(r"\s*:?(file|image|category|media)\s*:", re.IGNORECASE)
_LIST_OF_NAMESAKES = re.compile(r"\{\{\s*(disambig|hndis|geodis|surname)", re.IGNORECASE)
_BZ2 = b"BZh"


def read_mediawiki(files: Files) -> Iterator[Document]:
    """Articles of dumps (XML, plain or bz2) as text; no redirects, disambiguations, other namespaces.

    Read as a stream, so a consumer that stops early does not pay for the rest of a large dump.
    """
    for name, content in files.items():
        with opened(name, content) as raw, _unpacked(raw) as stream:
            for title, wikitext in _articles(name, stream):
                if not _LIST_OF_NAMESAKES.search(wikitext):
                    yield Document(f"{name}:{title}", _text_of(f"{name}: article {title!r}", wikitext))


def _unpacked(raw: io.BufferedReader) -> IO[bytes]:
    return bz2.BZ2File(raw) if raw.peek(len(_BZ2)).startswith(_BZ2) else raw


def _articles(name: str, stream: IO[bytes]) -> Iterator[tuple[str, str]]:
    bounded = _Bounded(name, stream)
    try:
        for _, page in ElementTree.iterparse(bounded):
            if not page.tag.endswith("}page") and page.tag != "page":
                continue
            if page.findtext("{*}ns") == "0" and page.find("{*}redirect") is None:
                yield page.findtext("{*}title") or "", page.findtext("{*}revision/{*}text") or ""
            page.clear()
            bounded.left = MOST_PAGE
    except (ElementTree.ParseError, OSError, EOFError) as error:
        raise InputError(f"{name}: not a MediaWiki dump: {error}") from None


def _text_of(where: str, wikitext: str) -> str:
    try:
        return plain_text(wikitext)
    except InputError as error:
        raise InputError(f"{where}: {error}; take it out of the dump") from None


class _Bounded:
    """A stream of which at most `left` bytes more can be read."""

    def __init__(self, name: str, stream: IO[bytes]) -> None:
        self.name, self.stream, self.left = name, stream, MOST_PAGE

    def read(self, size: int = -1, /) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise InputError(f"{self.name}: a page of more than {MOST_PAGE:,} bytes; give a dump of articles")
        return data


def plain_text(wikitext: str) -> str:
    """The running text of an article, headings on their own lines.

    Left out: templates, tables, references, formulas, files, categories, and sections of links and sources.
    Raises InputError for markup that no article has: too long, or too much of it opened and never closed.
    """
    markup = _without_references(_without_back_matter(wikitext))
    _check(markup)
    text = _render(mwparserfromhell.parse(markup))
    text = re.sub(r"\{\||\|\}|__[A-Z]+__|'{2,}", "", text)
    # Templates leave holes: "( ; born 1879)", "Achilles (, ,)", a space before a full stop.
    text = re.sub(r"\([\s,;:]+", "(", text)
    # The look-behinds let a match start only at the first of several spaces: starting at each of them would
    # take time quadratic in their number.
    text = re.sub(r"(?<![\s,;:])[\s,;:]+\)", ")", text)
    text = re.sub(r"(?<![ \t\u00a0])[ \t\u00a0]*\(\)", "", text)
    text = re.sub(r"[ \t\u00a0]+", " ", text)
    text = re.sub(r" ([,.;:])", r"\1", text)
    lines = [line.strip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _without_back_matter(wikitext: str) -> str:
    parts = re.split(r"^==([^=].*?)==\s*$", wikitext, flags=re.MULTILINE)
    kept = [parts[0]]
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        if heading.strip().lower() not in _BACK_MATTER:
            kept.append(f"=={heading}=={body}")
    return "".join(kept)


def _without_references(text: str) -> str:
    """Leave out `<ref ... />`, `<ref ...>...</ref>` and comments, in time that grows with the text alone."""
    kept, end = [], 0
    places: dict[str, re.Match[str] | None] = {}

    def find(pattern: str, start: int) -> re.Match[str] | None:
        # Searched again only when the match found last is behind `start`, so that no text is searched twice.
        found = places.get(pattern)
        if pattern not in places or (found is not None and found.start() < start):
            found = places[pattern] = _ENDS[pattern].search(text, start)
        return found

    for opening in _REFERENCE.finditer(text):
        if opening.start() < end:
            continue
        close: re.Match[str] | None
        if opening[0] == "<!--":
            close = find("-->", opening.end())
        else:
            close = find(">", opening.end())
            if close is not None and text[close.start() - 1] != "/":
                close = find(r"</ref\s*>", close.end())
        if close is not None:
            kept.append(text[end : opening.start()])
            end = close.end()
    return "".join([*kept, text[end:]])


def _check(markup: str) -> None:
    """Raise InputError for markup that is too long, or with too many marks of one kind open at once."""
    if len(markup) > MOST_CHARACTERS:
        raise InputError(f"{len(markup):,} characters; an article has at most {MOST_CHARACTERS:,}")
    # The parser calls itself for each, and its stack has an end.
    if any(len(_EQUALS.findall(line[0])) > MOST_OPEN for line in _HEADING_LINE.finditer(markup)):
        raise InputError(f"a line with more than {MOST_OPEN} times `=`; no article")
    if len(_UNENDED.findall(markup)) > MOST_OPEN:
        raise InputError(f"more than {MOST_OPEN} tags without their `>`; no article")
    depths: Counter[str] = Counter()
    last = ""
    for mark in _MARKS.finditer(markup):
        if mark["open"]:
            kind = last = (mark["tag"] or mark["open"]).lower()
            depths[kind] += 1
            if depths[kind] > MOST_OPEN:
                raise InputError(f"more than {MOST_OPEN} times `{mark['open']}` without its end; no article")
        else:
            kind = last if mark["close"] == "/>" else (mark["end"] or _CLOSES[mark["close"]]).lower()
            depths[kind] = max(0, depths[kind] - 1)


def _render(code: Any) -> str:
    """The text of a Wikicode; mwparserfromhell ships no types."""
    return "".join(_render_node(node) for node in code.nodes) if code is not None else ""


def _render_node(node: Any) -> str:
    if isinstance(node, Text):
        return str(node.value)
    if isinstance(node, Heading):
        return _render(node.title)
    if isinstance(node, HTMLEntity):
        return str(node.normalize())
    if isinstance(node, Wikilink) and not _MEDIA.match(str(node.title)):
        return _render(node.title if node.text is None else node.text)
    if isinstance(node, ExternalLink):
        return _render(node.title)
    if isinstance(node, Tag) and str(node.tag).strip().lower() not in _DROPPED_TAGS:
        return _render(node.contents)
    return ""
