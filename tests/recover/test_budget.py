"""How many steps fit into a budget of minutes."""

from dataclasses import replace

import pytest

from secateurs.errors import SettingError
from secateurs.recover.budget import Cost, steps_that_fit
from secateurs.settings.recovery import Training
from tests.recover.test_distillation import OFF, TRAINING

LONG = TRAINING.changed(steps=100_000, check_every=20, minutes=10.0)
ON = LONG.changed(on_policy=OFF.changed(share=0.5, every=10, first_tokens=100, tokens=500, grown=0.5))
COST = Cost(step=0.5, answers=1.0, writing=20.0, look=4.0)
TEXT = replace(COST, answers=0.0, writing=0.0)


def spent(steps: int, answers: bool) -> float:
    """Seconds that so many steps of LONG or ON take, each part added up by itself."""
    total = sum(0.5 + 4.0 * (step % 20 == 0) for step in range(1, steps + 1)) + 4.0 * (steps % 20 > 0)
    for step in range(steps if answers else 0):
        # Answers are as long as those were when they were written.
        share = (100 + 400 * min(1.0, step // 10 * 10 / (0.5 * steps))) / 500
        written = min(10, steps - step) / 10 if step % 10 == 0 else 0
        total += share * (1.0 + 20.0 * written)
    return total


@pytest.mark.parametrize(
    ("training", "cost", "answers"), [(LONG, TEXT, False), (ON, COST, True)], ids=["text", "answers"]
)
def test_as_many_steps_are_chosen_as_fit(training: Training, cost: Cost, answers: bool) -> None:
    steps = steps_that_fit(training, 600.0, cost)
    # Lengths are whole tokens.
    assert spent(steps, answers) < 600 + 1
    assert spent(steps + 1, answers) > 600 - 1


def test_no_more_steps_are_chosen_than_there_are() -> None:
    assert steps_that_fit(LONG.changed(steps=7), 1e9, TEXT) == 7


def test_a_budget_without_room_for_a_step_says_what_one_takes() -> None:
    with pytest.raises(
        SettingError, match=r"recover.minutes: 10.0: no step fits: one takes 0.5 s and a look"
    ):
        steps_that_fit(LONG, 3.0, TEXT)
