"""Text that two sources share, found by runs of words."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

_WORD = re.compile(r"\w+")

Run = tuple[str, ...]


def word_runs(text: str, length: int) -> set[Run]:
    """Every run of `length` successive words, in lower case; none if the text has fewer words."""
    words = _WORD.findall(text.lower())
    return set(zip(*(words[start:] for start in range(length)), strict=False))


def runs_of_items(items: Iterable[Any], length: int) -> set[Run]:
    """The runs of all texts inside JSON items; a run never spans two texts of an item."""
    runs: set[Run] = set()
    for text in _texts(items):
        runs |= word_runs(text, length)
    return runs


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(value.values())
    elif isinstance(value, Iterable):
        for item in value:
            yield from _texts(item)
