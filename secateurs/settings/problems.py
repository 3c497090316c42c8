"""What pydantic finds in settings, as messages for the person who wrote them."""

import datetime
from typing import Any

from pydantic import ValidationError

from secateurs.settings.base import MEANINGS

# Of a file; more than these nobody corrects one by one.
_MOST = 100
# Of a key: those that the file may have are shorter.
_LONGEST = 110


def lines_of(error: ValidationError) -> list[str]:
    """What pydantic found, a line each: `key: value: what would be right`."""
    lines: list[str] = []
    for item in error.errors():
        if item["type"] == "value_error" and not item["loc"]:
            lines += str(item["ctx"]["error"]).splitlines()
            continue
        value: Any = item["input"]
        if not item["loc"]:
            kind = {"NoneType": "empty", "str": "plain text"}.get(type(value).__name__, "a list or value")
            lines.append(f"{kind}, not a mapping of groups; fetch the file again")
            continue
        key = ".".join(_location(item["loc"]))
        told = "" if item["type"] in {"missing", "extra_forbidden"} else f"{shown(value)}: "
        message = {"extra_forbidden": "unknown key", "missing": "missing"}.get(item["type"], item["msg"])
        if item["type"] == "string_pattern_mismatch":
            message = MEANINGS[item["ctx"]["pattern"]]
        lines.append(f"{key}: {told}{message}")
    if len(lines) > _MOST:
        lines = [*lines[:_MOST], f"{len(lines) - _MOST:,} more problems of this kind"]
    return lines


def _location(loc: tuple[int | str, ...]) -> list[str]:
    # pydantic inserts the tag of a union (`domains.news.package.sha256`); the file has no such key.
    places = {"model": {1}, "domains": {2, 4}, "benchmarks": {2}}.get(str(loc[0]), set())
    last = len(loc) - 1
    # A key that is wrong itself has `[key]` after it.
    parts = [part for index, part in enumerate(loc) if index not in places or index == last]
    return [_name(part) for part in parts if part != "[key]"]


def _name(part: int | str) -> str:
    text = "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in str(part))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


# Of a value in a message.
_MOST_CHARACTERS = 120


def shown(value: object) -> str:
    """A value as Python writes it, or its beginning: by aliases a short file holds more than memory does."""
    text = _piece(value, 3)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _piece(value: object, levels: int) -> str:
    if isinstance(value, dict | list):
        if not levels:
            return "…"
        first, last = "[]" if isinstance(value, list) else "{}"
        items = value.items() if isinstance(value, dict) else ((None, one) for one in value)
        found: list[str] = []
        for key, one in items:
            found.append("" if key is None else f"{shown(key)}: ")
            found[-1] += _piece(one, levels - 1)
            if sum(map(len, found)) > _MOST_CHARACTERS:
                break
        return f"{first}{', '.join(found)}{last}"
    if isinstance(value, int) and value.bit_length() > 4 * _MOST_CHARACTERS:
        # Python writes no integer of more than 4,300 digits, and nobody reads one of so many.
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, datetime.date):
        return f"{value} (a date; put text in quotes)"
    return repr(value[: 2 * _MOST_CHARACTERS] if isinstance(value, str) else value)
