"""What stands for a task, and how sure its mean is."""

import math
from collections.abc import Mapping, Sequence
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


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, sqrt(sum (v - mean)^2 / (n - 1) / n); 0 for a single value."""
    count = len(values)
    mean = math.fsum(values) / count
    spread = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(spread / (count - 1) / count) if count > 1 else 0.0
