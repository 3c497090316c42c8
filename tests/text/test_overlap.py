import re
import unicodedata

import pytest

from stages.text.overlap import ngrams, ngrams_of_items


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
    ],
)
def test_where_no_spaces_are_written_a_syllable_counts_as_a_word(text: str, syllables: list[str]) -> None:
    assert ngrams(text, len(syllables)) == {tuple(syllables)}


@pytest.mark.parametrize("text", ["한국어는 띄어쓰기를 한다", "हिन्दी में लिखा", "Naïve café_1, don't — Москва"])
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
