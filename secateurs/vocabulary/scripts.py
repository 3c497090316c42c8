"""The writing system of a token: Latin, Han, Cyrillic …, by the Unicode property Script."""

from collections.abc import Iterable
from functools import cache

import regex

from secateurs.errors import SettingError

# Digits, punctuation, spaces, symbols, emoji; marks that combine with any letter.
COMMON = "Common"
# A piece of a character's bytes, which alone is no character.
FRAGMENT = "Fragment"
OTHER = "Other"
SCRIPTS = (
    "Latin", "Han", "Cyrillic", "Arabic", "Hangul", "Hiragana", "Katakana", "Greek", "Hebrew", "Devanagari",
    "Thai", "Bengali", "Tamil", "Telugu", "Malayalam", "Kannada", "Gujarati", "Gurmukhi", "Sinhala",
    "Georgian", "Armenian", "Khmer", "Lao", "Myanmar", "Ethiopic", "Tibetan", "Mongolian", "Oriya",
    "Cherokee", "Syriac", "Thaana", "Bopomofo", "Canadian_Aboriginal", "Javanese", "Ol_Chiki", "Tifinagh",
    "Nko", "Yi",
)  # fmt: skip
_PATTERNS = {name: regex.compile(rf"\p{{Script={name}}}") for name in SCRIPTS}
_COMMON = regex.compile(r"[\p{Script=Common}\p{Script=Inherited}]")


@cache
def _script_of_character(character: str) -> str:
    if _COMMON.match(character):
        return COMMON
    return next((name for name, pattern in _PATTERNS.items() if pattern.match(character)), OTHER)


def script_of(text: str) -> str:
    """The script of a token's text: one of SCRIPTS, COMMON, FRAGMENT or OTHER.

    A token with Latin letters and others is of the others' script, in whose text it stands; of several others
    the first by name.
    """
    found = {_script_of_character(character) for character in text if character != "\ufffd"}
    if not found and "\ufffd" in text:
        return FRAGMENT
    own = sorted(found - {COMMON, "Latin"})
    return own[0] if own else "Latin" if "Latin" in found else COMMON


def check_scripts(names: Iterable[str], key: str) -> None:
    """Raise SettingError, which names the key of the settings, for a script that is not known here."""
    for name in names:
        if name not in SCRIPTS:
            raise SettingError(f"{key}: {name}: no script of that name; known are {', '.join(SCRIPTS)}")
