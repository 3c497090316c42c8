"""Plain text of the articles in a MediaWiki dump."""

import bz2
import io
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any
from xml.etree import ElementTree

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Tag, Text, Wikilink

from stages.common.artifacts import Document
from stages.common.errors import InputError

# Sections without running text: lists of links and sources.
_BACK_MATTER = {
    *("see also", "references", "notes", "external links", "further reading", "bibliography", "sources"),
    *("footnotes", "citations", "notes and references", "works cited", "gallery"),
}
_DROPPED_TAGS = {"ref", "table", "gallery", "math", "timeline", "imagemap", "score", "references", "div"}
# Taken out before parsing: most of an article's marks are in its references.
_REFERENCE = re.compile(r"<ref\b[^>]*/>|<ref\b[^>]*>.*?</ref\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_MEDIA = re.compile(r"\s*:?(file|image|category|media)\s*:", re.IGNORECASE)
_LIST_OF_NAMESAKES = re.compile(r"\{\{\s*(disambig|hndis|geodis|surname)", re.IGNORECASE)
_BZ2 = b"BZh"


def read_mediawiki(files: Mapping[str, bytes]) -> Iterator[Document]:
    """Articles of dumps (XML, plain or bz2) as text; no redirects, disambiguations, other namespaces.

    Read as a stream, so a consumer that stops early does not pay for the rest of a large dump.
    """
    for name, data in files.items():
        raw = io.BytesIO(data)
        with bz2.BZ2File(raw) if data.startswith(_BZ2) else raw as stream:
            for title, wikitext in _articles(name, stream):
                if not _LIST_OF_NAMESAKES.search(wikitext):
                    yield Document(f"{name}:{title}", plain_text(wikitext))


def _articles(name: str, stream: IO[bytes]) -> Iterator[tuple[str, str]]:
    try:
        for _, page in ElementTree.iterparse(stream):
            if not page.tag.endswith("}page") and page.tag != "page":
                continue
            if page.findtext("{*}ns") == "0" and page.find("{*}redirect") is None:
                yield page.findtext("{*}title") or "", page.findtext("{*}revision/{*}text") or ""
            page.clear()
    except (ElementTree.ParseError, OSError, EOFError) as error:
        raise InputError(f"{name}: not a MediaWiki dump: {error}") from None


def plain_text(wikitext: str) -> str:
    """The running text of an article, headings on their own lines.

    Left out: templates, tables, references, formulas, files, categories, and sections of links and sources.
    """
    text = _render(mwparserfromhell.parse(_REFERENCE.sub("", _without_back_matter(wikitext))))
    text = re.sub(r"\{\||\|\}|__[A-Z]+__|'{2,}", "", text)
    # Templates leave holes: "( ; born 1879)", "Achilles (, ,)", a space before a full stop.
    text = re.sub(r"\([\s,;:]+", "(", text)
    text = re.sub(r"[\s,;:]+\)", ")", text)
    text = re.sub(r"[ \t\u00a0]*\(\)", "", text)
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
