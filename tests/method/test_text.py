"""Which sequences a round reads, and which healing reads."""

import pytest
import torch

from stages.common.errors import InputError
from stages.method.settings import Capture, Settings, Surgery
from stages.method.text import choice_text, healing_text, round_text

ROWS = torch.arange(5)[:, None].expand(5, 2)


def test_each_round_reads_the_next_sequences_and_wraps_around() -> None:
    settings = Settings({"news": 1.0}, {"r1": 0.3, "r2": 0.6, "r3": 1.0}, capture=Capture(sequences=2))
    turns = [round_text({"news": ROWS}, settings, name)["news"][:, 0].tolist() for name in settings.rounds]
    assert turns == [[0, 1], [2, 3], [4, 0]]


def test_healing_reads_the_first_sequences_of_domains_that_count() -> None:
    settings = Settings({"news": 1.0, "code": 0.0}, surgery=Surgery(sequences=3))
    text = healing_text({"news": ROWS, "code": ROWS}, settings)
    assert list(text) == ["news"]
    assert text["news"][:, 0].tolist() == [0, 1, 2]


def test_the_choice_reads_what_healing_has_not() -> None:
    settings = Settings({"news": 1.0, "code": 0.0}, surgery=Surgery(sequences=3, choice_sequences=2))
    text = choice_text({"news": ROWS, "code": ROWS[:1]}, settings)
    assert list(text) == ["news"]
    assert text["news"][:, 0].tolist() == [3, 4]


def test_too_little_text_to_choose_by_is_refused() -> None:
    settings = Settings({"news": 1.0}, surgery=Surgery(sequences=4, choice_sequences=2))
    with pytest.raises(InputError, match=r"choice_sequences: 2: domain news has 5 .* healing reads 4"):
        choice_text({"news": ROWS}, settings)
