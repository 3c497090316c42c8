"""Dialogues as several domains, and their weight divided among them."""

import pytest
import torch

from secateurs.text.documents import Document
from secateurs.text.parts import in_parts, spread
from secateurs.text.rows import Text
from secateurs.text.turns import Dialogue, to_json

COOKING = ["How do I bake bread in an oven", "Which oven bakes bread best", "Is bread from an oven fresh"]
PYTHON = ["Write a Python function that sorts", "Which Python function sorts a list", "Sort a list in Python"]


def dialogue(number: int, question: str) -> Document:
    return Document(f"dialogue-{number}", to_json(Dialogue(question, "Yes.", True)), chat=True)


SOURCES = {
    "news": [Document("news-0", "It rains.")],
    "dialogues": [dialogue(number, question) for number, question in enumerate(COOKING + PYTHON)],
}


def test_dialogues_are_parted_by_what_is_asked_the_largest_part_first() -> None:
    found, words = in_parts(SOURCES, 2)
    assert list(found) == ["news", "dialogues 1", "dialogues 2"]
    assert found["news"] == SOURCES["news"]
    assert [one.document for one in found["dialogues 1"]] == ["dialogue-0", "dialogue-1", "dialogue-2"]
    assert [one.document for one in found["dialogues 2"]] == ["dialogue-3", "dialogue-4", "dialogue-5"]
    assert "bread" in words["dialogues 1"]
    assert "python" in words["dialogues 2"]


def test_one_part_is_the_domain_as_it_is() -> None:
    assert in_parts(SOURCES, 1) == (SOURCES, {})
    assert in_parts({"news": SOURCES["news"]}, 6) == ({"news": SOURCES["news"]}, {})


def test_the_weight_of_dialogues_is_divided_by_what_is_read_of_each_part() -> None:
    mixture = {"news": 1.0, "dialogues": 8.0}
    found = spread(mixture, {"news": 1, "dialogues 1": 3, "dialogues 2": 1})
    assert found == {"news": 1.0, "dialogues 1": 6.0, "dialogues 2": 2.0}
    assert spread(mixture, {"news": 1, "dialogues": 8}) == mixture
    assert spread({"news": 1.0, "dialogues 1": 2.0}, {"news": 1, "dialogues 1": 5}) == {
        "news": 1.0,
        "dialogues 1": 2.0,
    }


@pytest.mark.parametrize("sizes", [(8,), (6, 2), (5, 1, 1, 2), (1, 1)])
def test_parts_are_read_together_about_as_long_as_all_other_domains(sizes: tuple[int, ...]) -> None:
    ids = {f"text {number}": torch.zeros(4, 8, dtype=torch.int64) for number in range(8)}
    parts = {f"dialogues {number}": torch.zeros(4 * size, 8) for number, size in enumerate(sizes)}
    text = Text({**ids, **parts}, {name: rows > 0 for name, rows in parts.items()})
    read = [text.times(name) for name in parts]
    assert abs(sum(read) - 8) <= len(sizes) / 2
    assert all(text.times(name) == 1 for name in ids)
