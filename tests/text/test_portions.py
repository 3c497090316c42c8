"""Which sequences a round reads, and which healing reads."""

import pytest
import torch

from secateurs.errors import InputError
from secateurs.settings.method import Settings
from secateurs.settings.pruning import Capture, Mask, Surgery
from secateurs.text.portions import (
    choice_text,
    healing_text,
    left_out_text,
    round_text,
    token_weights,
)
from secateurs.text.rows import Text

ROWS = torch.arange(5)[:, None].expand(5, 2)


def test_each_round_reads_the_next_sequences_and_wraps_around() -> None:
    settings = Settings(
        mixture={"news": 1.0}, rounds={"r1": 0.3, "r2": 0.6, "r3": 1.0}, capture=Capture(sequences=2)
    )
    turns = [
        round_text(Text({"news": ROWS}), settings, name).ids["news"][:, 0].tolist()
        for name in settings.rounds
    ]
    assert turns == [[0, 1], [2, 3], [4, 0]]


def test_what_a_round_looks_at_is_not_what_it_scores_by() -> None:
    settings = Settings(capture=Capture(sequences=2), mask=Mask(left_out=2))
    text = Text({"news": ROWS})
    assert left_out_text(text, settings.mask.left_out).ids["news"][:, 0].tolist() == [3, 4]
    turns = [round_text(text, settings, name).ids["news"][:, 0].tolist() for name in settings.rounds]
    assert turns == [[0, 1], [2, 0], [1, 2]]


def test_healing_reads_the_first_sequences_of_domains_that_count() -> None:
    settings = Settings(mixture={"news": 1.0, "code": 0.0}, surgery=Surgery(sequences=3))
    text = healing_text(Text({"news": ROWS, "code": ROWS}), settings)
    assert list(text) == ["news"]
    assert text["news"][:, 0].tolist() == [0, 1, 2]


def test_the_choice_reads_what_healing_has_not() -> None:
    settings = Settings(mixture={"news": 1.0, "code": 0.0}, surgery=Surgery(sequences=3, choice_sequences=2))
    text = choice_text(Text({"news": ROWS, "code": ROWS[:1]}), settings)
    assert list(text) == ["news"]
    assert text["news"][:, 0].tolist() == [3, 4]


def test_too_little_text_to_choose_by_is_refused() -> None:
    settings = Settings(mixture={"news": 1.0}, surgery=Surgery(sequences=4, choice_sequences=2))
    with pytest.raises(InputError, match=r"choice_sequences: 2: domain news has 5 .* healing reads 4"):
        choice_text(Text({"news": ROWS}), settings)


MANY = torch.arange(12)[:, None].expand(12, 2)
TALK = Text({"news": MANY, "code": MANY, "talk": MANY}, {"talk": MANY > 3})


def test_of_dialogues_as_many_sequences_are_read_as_of_all_others_together() -> None:
    mixture = {"news": 1.0, "code": 1.0, "talk": 2.0}
    capture, surgery = Capture(sequences=2), Surgery(sequences=3, choice_sequences=1)
    settings = Settings(mixture=mixture, rounds={"r1": 0.5, "r2": 1.0}, capture=capture, surgery=surgery)
    second = round_text(TALK, settings, "r2")
    assert {name: rows[:, 0].tolist() for name, rows in second.ids.items()} == {
        "news": [2, 3],
        "code": [2, 3],
        "talk": [4, 5, 6, 7],
    }
    assert torch.equal(second.answers["talk"], second.ids["talk"] > 3)
    assert {name: len(rows) for name, rows in healing_text(TALK, settings).items()} == {
        "news": 3,
        "code": 3,
        "talk": 6,
    }
    assert choice_text(TALK, settings)["talk"][:, 0].tolist() == [6, 7]


def test_a_domain_read_twice_as_long_counts_as_its_weight_says() -> None:
    settings = Settings(mixture={"news": 1.0, "code": 1.0, "talk": 2.0})
    assert token_weights(TALK, settings) == {"news": 1.0, "code": 1.0, "talk": 1.0}


def test_dialogues_alone_are_read_as_any_domain() -> None:
    assert Text({"talk": MANY}, {"talk": MANY > 3}).times("talk") == 1
