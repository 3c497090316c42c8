from stages.text.overlap import runs_of_items, word_runs


def test_runs_ignore_case_and_punctuation() -> None:
    assert word_runs("One, two -- THREE!", 2) == {("one", "two"), ("two", "three")}


def test_a_text_with_fewer_words_has_no_runs() -> None:
    assert word_runs("one two", 3) == set()


def test_runs_are_found_in_nested_items_but_do_not_span_texts() -> None:
    items = [{"question": "a b", "choices": {"text": ["c d", "e"], "label": 1}}]
    assert runs_of_items(items, 2) == {("a", "b"), ("c", "d")}
