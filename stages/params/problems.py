"""What pydantic finds in a YAML file, as messages for the person who wrote it."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from secateurs.settings.base import MEANINGS


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
        shown = "" if item["type"] in {"missing", "extra_forbidden"} else f"{value!r}: "
        message = {"extra_forbidden": "unknown key", "missing": "missing"}.get(item["type"], item["msg"])
        if item["type"] == "string_pattern_mismatch":
            message = MEANINGS[item["ctx"]["pattern"]]
        lines.append(f"{path}: {key}: {shown}{message}")
    return lines


def _location(loc: tuple[int | str, ...]) -> list[str]:
    # pydantic inserts the tag of a union (`domains.news.package.sha256`); the file has no such key.
    places = {"model": {1}, "domains": {2, 4}, "benchmarks": {2}}.get(str(loc[0]), set())
    last = len(loc) - 1
    return [str(part) for index, part in enumerate(loc) if index not in places or index == last]
