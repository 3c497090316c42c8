"""Repetition among short texts, and what they are about."""

from secateurs.text.breadth import distinct, topics

COOKING = ["How do I bake bread in an oven", "Which oven bakes bread best", "Is bread from an oven fresh"]
PYTHON = ["Write a Python function that sorts", "Which Python function sorts a list", "Sort a list in Python"]


def test_a_text_that_repeats_most_of_an_earlier_one_is_left_out() -> None:
    texts = [
        "one two three four five six seven eight",
        "One two three four five six seven nine!",
        "ten eleven",
    ]
    assert distinct(texts, 0.7) == [0, 1, 2]
    assert distinct(texts, 0.6) == [0, 2]


def test_short_texts_repeat_only_as_a_whole() -> None:
    assert distinct(["Hello there", "hello There", "Hello"], 0.0) == [0, 2]


def test_everything_is_kept_where_repetition_is_allowed() -> None:
    assert distinct(["same", "same"], 1.0) == [0, 1]


def test_texts_are_grouped_by_their_words() -> None:
    found = topics([text for pair in zip(COOKING, PYTHON, strict=True) for text in pair], 2)
    assert sorted(topic.places for topic in found) == [(0, 2, 4), (1, 3, 5)]
    words = {topic.places: topic.words for topic in found}
    assert "bread" in words[0, 2, 4]
    assert "python" in words[1, 3, 5]


def test_every_text_is_in_one_topic_and_the_largest_comes_first() -> None:
    texts = [*COOKING, *PYTHON, *PYTHON, "", "zyx"]
    found = topics(texts, 4)
    assert sorted(place for topic in found for place in topic.places) == list(range(len(texts)))
    sizes = [len(topic.places) for topic in found]
    assert sizes == sorted(sizes, reverse=True)


def test_there_are_no_more_topics_than_texts() -> None:
    assert len(topics(["a cat", "a dog"], 5)) <= 2
