"""What pydantic finds in a YAML file, as messages for the person who wrote it."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from secateurs.settings.base import MEANINGS
from stages.params.yaml_file import shown

# Of a file; more than these nobody corrects one by one.
_MOST = 100
# Of a key: those that the file may have are shorter.
_LONGEST = 110


def problems_of(path: Path, error: ValidationError) -> list[str]:
    """What pydantic found in a file, a line each: `file: key: value: what would be right`."""
    lines: list[str] = []
    for item in error.errors():
        if item["type"] == "value_error" and not item["loc"]:
            lines += [f"{path}: {problem}" for problem in str(item["ctx"]["error"]).splitlines()]
            continue
        value: Any = item["input"]
        if not item["loc"]:
            kind = {"NoneType": "empty", "str": "plain text"}.get(type(value).__name__, "a list or value")
            lines.append(f"{path}: {kind}, not a mapping of groups; fetch the file again")
            continue
        key = ".".join(_location(item["loc"]))
        told = "" if item["type"] in {"missing", "extra_forbidden"} else f"{shown(value)}: "
        message = {"extra_forbidden": "unknown key", "missing": "missing"}.get(item["type"], item["msg"])
        if item["type"] == "string_pattern_mismatch":
            message = MEANINGS[item["ctx"]["pattern"]]
        lines.append(f"{path}: {key}: {told}{message}")
    if len(lines) > _MOST:
        lines = [*lines[:_MOST], f"{path}: {len(lines) - _MOST:,} more problems of this kind"]
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
