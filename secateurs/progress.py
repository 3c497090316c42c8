"""Progress bars, and which of several processes shows them."""

import os
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def is_first() -> bool:
    """Whether this process writes and shows progress: the only one, or the first under torchrun."""
    return os.environ.get("RANK", "0") == "0"


def progress(items: Iterable[T], label: str, unit: str, total: int | None = None) -> "tqdm[T]":
    """A progress bar over items, with rate and remaining time; silent where stderr is not a terminal."""
    return tqdm(items, desc=label, unit=f" {unit}", total=total, **_bar())


def counter(label: str, unit: str, total: int, *, thousands: bool = False) -> "tqdm[NoReturn]":
    """The same bar for work that reports its own steps: call its `update(count)`.

    thousands: counts and rates are written as 12.3k, for units of which there are many.
    """
    return tqdm(desc=label, unit=f" {unit}", total=total, unit_scale=thousands, **_bar())


def _bar() -> dict[str, Any]:
    return {"disable": None if is_first() else True, "leave": False, "dynamic_ncols": True}
