"""The rows that somebody who ships a model compares: data/baselines/FOLDER/rows.json, as tables.

The file has `model`, which heads the names, and `rows`; all that a row has is below. What was not measured
may be absent, and is a dash; a column that no row has is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from secateurs.errors import InputError
from secateurs.settings.base import Group, Line, Size
from secateurs.settings.problems import lines_of
from stages.common.artifacts import read_json
from stages.reporting.markdown import markdown_table

DASH = "-"

Share = Annotated[float, Field(ge=0.0)]
Above = Annotated[float, Field(gt=0.0)]


class Speed(Group):
    """Tokens a second, of reading a prompt and of writing after it."""

    runtime: Line
    machine: Line
    prefill: Above | None
    decode: Above | None

    @property
    def where(self) -> str:
        """What ran on what."""
        return f"{self.runtime} on {self.machine}"


class Shipped(Group):
    """A model that could be shipped.

    bytes: of the file or files of weights; tasks: accuracy by task or mean of tasks, 0 to 1; held_out:
    perplexity on held-out text, model / dense; kept: accuracy, model / dense, the worst column and the mean
    over columns. whole_only: whether a short table leaves it out.
    """

    name: Line
    parameters: Size | None
    bytes: Size | None
    speeds: list[Speed] | None
    tasks: dict[Line, Annotated[float, Field(ge=0.0, le=1.0)]] | None
    held_out: Above | None
    worst_kept: Share | None
    mean_kept: Share | None
    whole_only: bool | None


class Rows(Group):
    """A file of rows; model: what all of them were made of."""

    model: Line
    rows: Annotated[list[Shipped], Field(min_length=1)]


Column = tuple[str, Callable[[Shipped], str]]


def read_rows(path: Path) -> Rows:
    """A file of rows; InputError, a line a problem, where it has another form."""
    try:
        return Rows.model_validate(read_json(path))
    except ValidationError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in lines_of(error))) from None


def short_table(found: Rows) -> str:
    """What fits a README: size, what is kept, which a phone still shows, speed on the runtime named first."""
    found = found.model_copy(update={"rows": [row for row in found.rows if not row.whole_only]})
    places = _places(found)[:1]
    table = _table(found, [_GB, *_LOST, *(column for place in places for column in _two(place))])
    return "\n\n".join([table, *(f"Tokens a second: {place}." for place in places)])


def whole_table(found: Rows) -> str:
    """Everything that the rows have."""
    tasks = dict.fromkeys(task for row in found.rows for task in row.tasks or {})
    columns = [_PARAMETERS, _GB, *_LOST, *map(_both, _places(found)), *map(_task, tasks)]
    return _table(found, columns)


def _table(found: Rows, columns: Sequence[Column]) -> str:
    there = [(head, cell) for head, cell in columns if any(cell(row) != DASH for row in found.rows)]
    rows = [(row.name, *(cell(row) for _, cell in there)) for row in found.rows]
    return markdown_table((found.model, *(head for head, _ in there)), rows)


def _places(found: Rows) -> list[str]:
    return list(dict.fromkeys(speed.where for row in found.rows for speed in row.speeds or ()))


def _number(value: float | None, form: str) -> str:
    return DASH if value is None else f"{value:{form}}"


_PARAMETERS: Column = (
    "parameters",
    lambda row: DASH if row.parameters is None else f"{row.parameters / 1e6:,.0f} M",
)
_GB: Column = ("GB", lambda row: DASH if row.bytes is None else f"{row.bytes / 1e9:.2f}")
_LOST: tuple[Column, ...] = (
    ("worst kept", lambda row: _number(row.worst_kept, ".2f")),
    ("mean kept", lambda row: _number(row.mean_kept, ".2f")),
    ("perplexity", lambda row: _number(row.held_out, ".3f")),
)


def _speeds(row: Shipped, place: str) -> Iterator[Speed]:
    return (speed for speed in row.speeds or () if speed.where == place)


def _two(place: str) -> tuple[Column, Column]:
    """Prefill and decode in columns of their own."""
    return (
        ("prefill", lambda row: next((_rate(one.prefill) for one in _speeds(row, place)), DASH)),
        ("decode", lambda row: next((_rate(one.decode) for one in _speeds(row, place)), DASH)),
    )


def _both(place: str) -> Column:
    """Prefill and decode in one column."""

    def cell(row: Shipped) -> str:
        both = [f"{_rate(one.prefill)} / {_rate(one.decode)}" for one in _speeds(row, place)]
        return next(iter(both), DASH)

    return f"prefill / decode, {place}", cell


def _rate(tokens: float | None) -> str:
    return _number(tokens, ",.0f" if tokens is None or tokens >= 100 else ".1f")


def _task(task: str) -> Column:
    return task, lambda row: _number((row.tasks or {}).get(task), ".3f")
