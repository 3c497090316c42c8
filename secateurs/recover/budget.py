"""How many steps fit into minutes of wall time, by what a device needs for each part of them."""

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import torch

from secateurs.errors import SettingError
from secateurs.recover.rollouts import longest_answer
from secateurs.settings.recovery import Training


@dataclass(frozen=True)
class Cost:
    """Seconds that parts of a training take.

    step: one update by text alone. answers: what the answers of a step add to it, and writing: writing those
    of on_policy.every steps, both at their full length. look: a check on left-out text.
    """

    step: float
    answers: float
    writing: float
    look: float


def seconds_of_steps(training: Training, steps: int, cost: Cost) -> float:
    """Seconds that so many steps take: text, answers and their writing by their lengths, and looks."""
    how = training.on_policy
    lengths = [longest_answer(how, first, steps) / how.tokens for first in range(0, steps, how.every)]
    made = [min(how.every, steps - first) for first in range(0, steps, how.every)]
    each = cost.answers + cost.writing / how.every
    answers = sum(length * count * each for length, count in zip(lengths, made, strict=True))
    return steps * cost.step + answers + -(-steps // training.check_every) * cost.look


def steps_that_fit(training: Training, seconds: float, cost: Cost) -> int:
    """How many steps of a training, at most its own, fit into so many seconds, by seconds_of_steps.

    Raises SettingError where not even one step fits.
    """

    def over(steps: int) -> bool:
        return seconds_of_steps(training, steps, cost) > seconds

    fit = bisect_left(range(1, training.steps + 1), True, key=over)
    each = cost.step + cost.answers + cost.writing / training.on_policy.every
    if fit < 1 and training.steps:
        raise SettingError(
            f"recover.minutes: {training.minutes}: no step fits: one takes {each:.2g} s and a look at what "
            f"is left out {cost.look:.2g} s, and after the first look and the trial of the device's speed "
            f"{max(seconds, 0.0):.2g} s are left; give more"
        )
    return fit


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """The mean wall time of some runs of a work on a device, which is waited for."""
    wait = (lambda: None) if device.type == "cpu" else torch.get_device_module(device).synchronize
    wait()
    start = time.monotonic()
    for _ in range(repeats):
        work()
    wait()
    return (time.monotonic() - start) / repeats
