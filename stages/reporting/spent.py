"""What the time of the stages was spent on, as the rows of a table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PARTS = ("dvc", "import", "load", "compute", "write")
HEAD = ("stage, seconds", "DVC", *PARTS[1:], "all", "processor")


def spent_rows(notes: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each note of a stage (stopwatch.note), and their sum.

    DVC's part is what it did before the stage: since the one before ended, or since DVC started. Where it
    is not known, because no DVC was found above the process, it is a dash, and counts as nothing.
    """
    seconds = [(str(one["stage"]), one["seconds"]) for one in notes]
    everything = {key: sum(found[key] or 0.0 for _, found in seconds) for key in (*PARTS, "processor")}
    return [_row(name, found) for name, found in (*seconds, ("all stages", everything))]


def _row(name: str, found: Mapping[str, float | None]) -> tuple[str, ...]:
    whole = sum(found[key] or 0.0 for key in PARTS)
    cells: Sequence[float | None] = [*(found[key] for key in PARTS), whole, found["processor"]]
    return (name, *("-" if one is None else f"{one:.1f}" for one in cells))
