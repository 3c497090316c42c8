"""Text that two sources have in common, found by n-grams of words.

Scripts that put no spaces between words have no such words to count; there a syllable counts as one.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

# Scripts written without spaces between words, by block. Korean is written with them.
_UNSPACED = (
    *((0x3005, 0x3007), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)),  # kana, iteration marks
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFD)),  # Han
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai, Lao, Myanmar, Khmer
    *((0x1950, 0x19DF), (0x1A20, 0x1AAF), (0xAA60, 0xAADF)),  # Tai scripts, more Myanmar
    *((0x1B00, 0x1B7F), (0xA980, 0xA9DF)),  # Balinese, Javanese
    *((0x3105, 0x312F), (0x31A0, 0x31BF), (0xA000, 0xA48F)),  # Bopomofo, Yi
)
# Letters of Thai and Lao that stand before or after the consonant whose vowel they are.
_BEFORE, _AFTER = "\u0e40-\u0e44\u0ec0-\u0ec4", "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"
# A sign of Khmer and its like that puts the next consonant below the one before.
_STACKERS = "\u1039\u17d2\u1a60\u1b44\ua9c0"


def _word() -> re.Pattern[str]:
    """Letters and digits in a row, as `\\w+` has it; of an unspaced script, a syllable."""
    letters, marks = "", ""
    for first, last in _UNSPACED:
        if first in {0x3400, 0x4E00, 0x20000}:
            letters += f"{chr(first)}-{chr(last)}"  # as good as all of these blocks are letters
            continue
        for letter in map(chr, range(first, last + 1)):
            category = unicodedata.category(letter)
            letters += letter if category.startswith("L") else ""
            marks += letter if category.startswith("M") else ""
    stacked = f"[{_STACKERS}][{letters}]"
    syllable = f"[{_BEFORE}]?[{letters}](?:{stacked}|[{marks}])*[{_AFTER}]?"
    return re.compile(f"[^\\W{letters}]+|{syllable}")


_WORD = _word()

NGram = tuple[str, ...]
"""Words that follow one another, in lower case."""


def ngrams(text: str, length: int) -> set[NGram]:
    """Every n-gram of `length` words of a text, in lower case; none if the text has fewer words.

    A letter and its accent are one, however they were typed.
    """
    words = _WORD.findall(unicodedata.normalize("NFC", text).lower())
    return set(zip(*(words[start:] for start in range(length)), strict=False))


def ngrams_of_items(items: Iterable[Any], length: int) -> set[NGram]:
    """The n-grams of all texts inside JSON items; none spans two texts of an item."""
    found: set[NGram] = set()
    for text in _texts(items):
        found |= ngrams(text, length)
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(value.values())
    elif isinstance(value, Iterable):
        for item in value:
            yield from _texts(item)
