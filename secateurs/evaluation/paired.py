"""What changed between two models that answered the same items."""

import math
from collections.abc import Sequence

from secateurs.evaluation.scores import mean_error

Pair = tuple[float, float]
"""A difference and its standard error."""


def paired(dense: Sequence[float], other: Sequence[float]) -> Pair:
    """Mean over items of other - dense, with its standard error.

    What makes an item easy for both models is not in the error: sqrt(sum (d - mean d)^2 / (n - 1) / n) for
    the items' differences d.
    """
    return mean_error([after - before for before, after in zip(dense, other, strict=True)])


def mean_of(pairs: Sequence[Pair]) -> Pair:
    """The mean of k tasks' differences, and its standard error: sqrt(sum error^2) / k."""
    values, errors = zip(*pairs, strict=True)
    return math.fsum(values) / len(pairs), math.hypot(*errors) / len(pairs)
