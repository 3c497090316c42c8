"""What a pull request holds, shown in a comment: it may say anything, and must stay text.

Keys, names and values come from files that anybody may change. In a comment, Markdown of theirs could call
people, fetch pictures, or pass for the review's own words.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

# Of one key or value; of all entries of a file.
MOST_CHARACTERS, MOST_ENTRIES = 160, 20_000
MOST_DEPTH = 50
# Of one value; a number or text is one piece.
MOST_PIECES = 2_000


def code(text: str) -> str:
    """Text as it is, in a code span that nothing in it can end: no mentions, links or HTML come of it."""
    # Backslashes do not escape in code, but GitHub's tables end a cell at a bare bar even there.
    line = _line(text).replace("`", "\u02cb").replace("|", "\\|")
    return f"`{line}`" if line.strip() else "` `"


def words(text: str) -> str:
    """Text as it is, outside of code: every mark of Markdown and HTML escaped."""
    escaped = "".join(f"\\{mark}" if mark in "\\`*_{}[]<>#|!~&" else mark for mark in _line(text))
    # Mentions and addresses are found in plain text; this parts them without being seen.
    return escaped.replace("@", "@\u200b").replace("://", ":\u200b//").replace("www.", "www\u200b.")


def as_json(value: Any) -> str:
    """A value as JSON, or its beginning: YAML lets a short file hold more than a memory does, or itself."""
    pieces: list[str] = []
    encoder = json.JSONEncoder(ensure_ascii=False, default=str, skipkeys=True)
    try:
        # Made piece by piece, so that no more is made than is kept.
        for piece in encoder.iterencode(value):
            pieces.append(piece)
            if len(pieces) > MOST_PIECES:
                pieces.append("…")
                break
    except (ValueError, TypeError, RecursionError):
        pieces.append("… (cannot be shown)")
    return "".join(pieces)


def _line(text: str) -> str:
    printable = "".join(mark if mark.isprintable() else " " for mark in text)
    return printable if len(printable) <= MOST_CHARACTERS else f"{printable[:MOST_CHARACTERS]}…"


def entries(tree: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Nested mappings as (`a.b.c`, value); a mapping in it deeper than MOST_DEPTH is a value."""
    if not isinstance(tree, Mapping):
        return
    for name, value in tree.items():
        if isinstance(value, Mapping) and value and depth < MOST_DEPTH:
            yield from entries(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value


def numbers(tree: Any) -> tuple[dict[str, Any], list[str]]:
    """Nested mappings with their finite numbers alone, and the names of what is left out."""
    found: dict[str, Any] = {}
    left_out: list[str] = []
    for count, (name, value) in enumerate(entries(tree)):
        if count >= MOST_ENTRIES:
            left_out.append("all further ones")
            break
        if isinstance(value, Mapping) and not value:
            # A group of nothing: the accuracy of a run without tasks.
            continue
        if not _is_number(value):
            left_out.append(name)
            continue
        group = found
        *groups, last = name.split(".")
        for one in groups:
            inner = group.setdefault(one, {})
            group = inner if isinstance(inner, dict) else {}
        group[last] = value
    return found, left_out


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def within(lines: list[str], most: int, what: str) -> list[str]:
    """As many of the lines as `most` characters hold; the last one then says how many are left out."""
    kept, used = [], 0
    for line in lines:
        used += len(line) + 1
        if used > most:
            break
        kept.append(line)
    if len(kept) == len(lines):
        return kept
    return [
        *kept,
        "",
        f"{len(lines) - len(kept):,} more {what} are left out, because a comment holds no more.",
    ]
