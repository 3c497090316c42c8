"""How many steps fit into minutes of wall time, by what a device needs for each part of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from secateurs.errors import SettingError
from secateurs.recover.rollouts import mean_share
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


def steps_that_fit(training: Training, seconds: float, cost: Cost) -> int:
    """How many steps of a training, at most its own, fit into so many seconds.

        seconds >= look + steps (step + share (answers + writing / every) + look / check_every)

    share: the mean length of answers over the training, as a share of the full length. Raises SettingError
    where not even one step fits.
    """
    answers = mean_share(training.on_policy) * (cost.answers + cost.writing / training.on_policy.every)
    each = cost.step + answers + cost.look / training.check_every
    fit = int((seconds - cost.look) / each)
    if fit < 1 and training.steps:
        raise SettingError(
            f"recover.minutes: {training.minutes}: no step fits: one takes {each:.2g} s and a look at what "
            f"is left out {cost.look:.2g} s, and after the first look and the trial of the device's speed "
            f"{max(seconds, 0.0):.2g} s are left; give more"
        )
    return min(fit, training.steps)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """The mean wall time of some runs of a work on a device, which is waited for."""
    wait = (lambda: None) if device.type == "cpu" else torch.get_device_module(device).synchronize
    wait()
    start = time.monotonic()
    for _ in range(repeats):
        work()
    wait()
    return (time.monotonic() - start) / repeats
