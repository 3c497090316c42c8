import re
import unicodedata

import pytest

from secateurs.text.overlap import ngrams, ngrams_of_items


def test_runs_ignore_case_and_punctuation() -> None:
    assert ngrams("One, two -- THREE!", 2) == {("one", "two"), ("two", "three")}


def test_a_text_with_fewer_words_has_no_runs() -> None:
    assert ngrams("one two", 3) == set()


def test_runs_are_found_in_nested_items_but_do_not_span_texts() -> None:
    items = [{"question": "a b", "choices": {"text": ["c d", "e"], "label": 1}}]
    assert ngrams_of_items(items, 2) == {("a", "b"), ("c", "d")}


@pytest.mark.parametrize(
    ("text", "syllables"),
    [
        ("我们住在2024年的北京。", ["我", "们", "住", "在", "2024", "年", "的", "北", "京"]),
        ("東京タワーへ", ["東", "京", "タ", "ワ", "ー", "へ"]),
        ("ประเทศไทย", ["ป", "ระ", "เท", "ศ", "ไท", "ย"]),
        ("ភាសាខ្មែរ", ["ភា", "សា", "ខ្មែ", "រ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("ພາສາລາວ", ["ພາ", "ສາ", "ລາ", "ວ"]),
        ("ㄅㄆㄇ", ["ㄅ", "ㄆ", "ㄇ"]),
        ("ꆈꌠꉙ", ["ꆈ", "ꌠ", "ꉙ"]),
        ("한국어는 쓴다", ["한", "국", "어", "는", "쓴", "다"]),
        ("ᮘᮞ ᮞᮥᮔ᮪ᮓ", ["ᮘ", "ᮞ", "ᮞᮥ", "ᮔ᮪", "ᮓ"]),
        ("ᨅᨔ ᨕᨘᨁᨗ", ["ᨅ", "ᨔ", "ᨕᨘ", "ᨁᨗ"]),
        ("བོད་ཡིག", ["བོ", "ད", "ཡི", "ག"]),
        ("ꕙꔤ", ["ꕙ", "ꔤ"]),
        ("ภาษา๒๔๖๗", ["ภา", "ษา", "๒๔๖๗"]),
    ],
)
def test_where_no_spaces_are_written_a_syllable_counts_as_a_word(text: str, syllables: list[str]) -> None:
    assert ngrams(text, len(syllables)) == {tuple(syllables)}


@pytest.mark.parametrize("text", ["हिन्दी में लिखा", "Naïve café_1, don't — Москва", "العربية ቋንቋ ქართული"])
def test_text_with_spaces_is_cut_at_word_boundaries_alone(text: str) -> None:
    assert ngrams(text, 1) == {(word,) for word in re.findall(r"\w+", text.lower())}


def test_near_duplicates_without_spaces_are_found() -> None:
    article = "市政府昨日宣布将在河边修建一座新的图书馆、预计明年春天向所有居民开放。"
    edited = article.replace("昨日", "今天早上").replace("春天", "秋天")
    assert ngrams(article, 13) & ngrams(edited, 13)
    other = "渔民们说今年的收成比往年好得多、因为雨水来得早、河里的水位也一直很高。"
    assert not ngrams(article, 13) & ngrams(other, 13)


def test_an_accent_typed_apart_from_its_letter_makes_no_other_word() -> None:
    text = "Déjà vu: the façade of the café, naïve as a señor's rôle"
    assert ngrams(unicodedata.normalize("NFD", text), 5) == ngrams(text, 5)


KOREAN = "시청은 어제 강가에 새 도서관을 짓겠다고 발표했으며 내년 봄에 모든 주민에게 문을 열 예정이다"
SUNDANESE = "ᮔᮂ ᮕᮙᮛᮨᮔ᮪ᮒᮂ ᮊᮧᮒ ᮛᮨᮊ᮪ ᮔᮍᮧᮔ᮪ ᮕᮨᮛᮥᮞ᮪ᮒᮊᮃᮔ᮪ ᮃᮑᮁ ᮓᮤ ᮞᮤᮞᮤ ᮝᮜᮥᮍᮔ᮪"
TALE = "The harbour master's office filed the difficult report in Straße 12, and nobody read it until the end"


@pytest.mark.parametrize("text", [KOREAN, SUNDANESE])
def test_spaces_that_may_be_left_out_hide_no_duplicate(text: str) -> None:
    assert ngrams(text, 13)
    assert ngrams(text.replace(" ", ""), 13) == ngrams(text, 13)


@pytest.mark.parametrize(
    "unseen",
    [
        *("\u00ad", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff"),  # soft hyphen, widths of zero
        *("\u200e", "\u202a", "\u2066", "\u061c"),  # directions
        *("\ufe0f", "\u034f", "\u180e", "\u115f", "\u3164", "\U000e0041", "\x00", "\x1b"),
    ],
)
@pytest.mark.parametrize("text", [TALE, KOREAN, "市政府昨日宣布将在河边修建一座新的图书馆"])
def test_what_cannot_be_seen_hides_no_duplicate(text: str, unseen: str) -> None:
    assert ngrams(unseen.join(text), 13) == ngrams(text, 13)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("Straße", "strasse"),
        ("STRAẞE", "straße"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("ﬁle oﬀice", "file office"),
        ("\uff26\uff55\uff4c\uff4c\u3000\uff37\uff11\uff12", "Full W12"),
        ("ｶﾞﾗｽ", "ガラス"),
        ("가각", unicodedata.normalize("NFD", "가각")),
        ("\U0001d401\U0001d428 \U0001d456\U0001d461", "Bo it"),
        ("Ǆ", "ǆ"),
        ("Windows™ 10", "Windows 10"),
        ("㍿の車", "株式会社の車"),
    ],
)
def test_forms_of_the_same_letters_make_no_other_word(one: str, other: str) -> None:
    assert ngrams(one, 2) == ngrams(other, 2)
    assert ngrams(one, 1) == ngrams(other, 1)


def test_every_character_that_shows_nothing_by_itself_is_passed_over() -> None:
    # These of the category "format" show something: signs around digits, the layout of hieroglyphs.
    signs = {0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    shown = signs.union(range(0x600, 0x606), range(0x13430, 0x13440))
    for code in set(range(0x110000)) - shown:
        if unicodedata.category(chr(code)) == "Cf":
            assert ngrams(f"a{chr(code)}b", 1) == {("ab",)}, hex(code)
