"""What stands for a task, and how sure its mean is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def headline_metric(accuracy: Mapping[str, Any]) -> str:
    """The metric that stands for a task: accuracy per character, else plain, else the first that it has."""
    metrics = [key for key in accuracy if f"{key}_stderr" in accuracy]
    return next((key for key in ("acc_norm", "acc") if key in metrics), metrics[0])


def headline(accuracy: Mapping[str, Any]) -> tuple[float, float]:
    """The value of a task's headline metric and its standard error."""
    key = headline_metric(accuracy)
    return accuracy[key], accuracy[f"{key}_stderr"]


def averaged(accuracy: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The tasks over which a mean is taken: those that compare choices, or all where none does.

    How often a choice is right and how often a written answer is are too different to be averaged.
    """
    choosing = [task for task, values in accuracy.items() if "acc" in values]
    return choosing or list(accuracy)


ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Kept:
    """What a model kept of another's abilities: pruned / dense, by column, none of which is below 0.

    A column is what a table shows: the mean of the tasks that compare choices, and each task of written
    answers.
    """

    shares: Mapping[str, float]

    @property
    def worst(self) -> float:
        """The smallest share: an ability that was given up is not hidden by the others."""
        return min(self.shares.values())

    @property
    def mean(self) -> float:
        """The mean share."""
        return math.fsum(self.shares.values()) / len(self.shares)


def kept(pruned: Mapping[str, Mapping[str, Any]], dense: Mapping[str, Mapping[str, Any]]) -> Kept | None:
    """The shares kept, of accuracies by task as Score.record gives them; None of fewer than two columns.

    A column of which the dense model has nothing right has no share, because there was nothing to keep.
    """
    together = averaged(dense)
    columns = {ZERO_SHOT: together} if any("acc" in dense[task] for task in together) else {}
    columns |= {task: [task] for task in dense if task not in columns.get(ZERO_SHOT, [])}
    shares = {}
    for name, tasks in columns.items():
        before, after = (
            math.fsum(headline(accuracy[task])[0] for task in tasks) for accuracy in (dense, pruned)
        )
        if before > 0:
            shares[name] = after / before
    return Kept(shares) if len(columns) > 1 and shares else None


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, sqrt(sum (v - mean)^2 / (n - 1) / n); 0 for a single value."""
    count = len(values)
    mean = math.fsum(values) / count
    spread = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(spread / (count - 1) / count) if count > 1 else 0.0
