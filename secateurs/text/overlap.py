"""Text that two sources have in common, found by n-grams of words.

What does not show, or shows alike, makes no other word: letters are compared without case, in the form that
Unicode has for all that mean the same, and without characters that cannot be seen. Scripts that put no spaces
between words, or not everywhere, have no such words to count; there a syllable counts as one.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

# Scripts that are written with spaces between words, by blocks; any other counts syllables. Hangul is not
# here, because Korean leaves spaces out at will.
_SPACED = (
    (0x0000, 0x0DFF),  # Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic and its like, those of India
    *((0x10A0, 0x10FF), (0x1200, 0x16FF), (0x1800, 0x18FF)),  # Georgian, Ethiopic to Runic, Mongolian, Cree
    *((0x1C50, 0x1CBF), (0x1CD0, 0x2BFF)),  # Ol Chiki, more Cyrillic and Georgian, then Latin and Greek
    *((0x2C00, 0x2DFF), (0xA640, 0xA69F), (0xA700, 0xA7FF)),  # Glagolitic to Cyrillic, more of these
    *((0xA8E0, 0xA8FF), (0xAB00, 0xABBF), (0xFB00, 0xFDFF)),  # Devanagari, Ethiopic to Cherokee, Arabic
    *((0xFE70, 0xFEFE), (0x10400, 0x104FF), (0x11100, 0x1114F)),  # Arabic, Deseret and Osage, Chakma
    *((0x1D400, 0x1D7FF), (0x1E900, 0x1E95F)),  # letters of mathematics, Adlam
)
# Letters of Thai and Lao that stand before or after the consonant whose vowel they are.
_BEFORE, _AFTER = "\u0e40-\u0e44\u0ec0-\u0ec4", "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"
# A sign that puts the next consonant below the one before (Khmer and its like, Sundanese).
_STACKERS = "\u1039\u17d2\u1a60\u1b44\u1bab\ua9c0\uaaf6"
# What shows nothing by itself: soft hyphens, joiners, marks of direction, fillers, variants of signs, control
# characters but spaces; and the signs of a trademark, which would be letters in the common form.
_UNSEEN = re.compile(
    "[\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\u2120\u2122]+"
)


def _word() -> re.Pattern[str]:
    """Letters and digits in a row, as `\\w+` has it; of an unspaced script, a syllable."""
    ends = [0, *chain.from_iterable((first, last + 1) for first, last in _SPACED), 0x110000]
    gaps = [(first, last) for first, last in zip(ends[::2], ends[1::2], strict=True) if first < last]
    unspaced = "".join(f"{chr(first)}-{chr(last - 1)}" for first, last in gaps)
    marks = "".join(
        chr(code)
        for first, last in gaps
        for code in range(first, min(last, 0x20000))  # beyond: Han, and what is unseen
        if unicodedata.category(chr(code)).startswith("M")
    )
    letter = f"(?:(?=[{unspaced}])[^\\W\\d])"
    syllable = f"[{_BEFORE}]?{letter}(?:[{_STACKERS}]{letter}|[{marks}])*[{_AFTER}]?"
    return re.compile(f"(?:[^\\W{unspaced}]+|\\d)+|{syllable}")


_WORD = _word()

NGram = tuple[str, ...]
"""Words that follow one another, in the form in which they are compared."""


def ngrams(text: str, length: int) -> set[NGram]:
    """Every n-gram of `length` words of a text, as they are compared; none if the text has fewer words.

    A letter and its accent are one, however they were typed.
    """
    words = _WORD.findall(_comparable(text))
    return set(zip(*(words[start:] for start in range(length)), strict=False))


def _comparable(text: str) -> str:
    """A text in the one form of all that read the same: no case, no variants of a letter, nothing unseen."""
    seen = _UNSEEN.sub("", text)
    # Without case a letter may be several (ß, İ), which have a common form of their own.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())


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
