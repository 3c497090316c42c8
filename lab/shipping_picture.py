"""A picture of rows that can be shipped: what they keep of the accuracy, against size and speed."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt

from lab.shipping import Rows, Shipped
from stages.reporting.style import MANY, MARKERS, WIDTH, Picture, house_style, picture

Place = Callable[[Shipped], float | None]


def draw_kept(found: Rows) -> Picture:
    """A row's worst and mean kept share, joined, over its size, and over its prefill where known."""
    rows = [row for row in found.rows if row.worst_kept is not None and row.mean_kept is not None]
    panels: list[tuple[str, Place]] = [("GB of weights", _gigabytes), (f"prefill, {_place(rows)}", _prefill)]
    panels = [(label, at) for label, at in panels if sum(at(row) is not None for row in rows) > 1]
    with house_style():
        figure, axes = plt.subplots(
            len(panels), figsize=(WIDTH, 1.0 + 2.3 * len(panels) + 0.19 * len(rows)), squeeze=False
        )
        for panel, (label, at) in zip(axes[:, 0], panels, strict=True):
            _draw(panel, rows, at)
            panel.set_xlabel(label)
            panel.set_ylabel("share kept,\nworst to mean column")
            panel.set_ylim(top=1.05)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=1)
        return picture(figure)


def _draw(panel: Any, rows: Sequence[Shipped], at: Place) -> None:
    """The rows of a panel; those of one place stand side by side."""
    places = [at(row) for row in rows]
    known = [where for where in places if where is not None]
    for index, (row, where) in enumerate(zip(rows, places, strict=True)):
        if where is None:
            continue
        beside = places[:index].count(where) - (places.count(where) - 1) / 2
        x = where + beside * (max(known) - min(known)) / 40
        panel.plot(
            [x, x],
            [row.worst_kept, row.mean_kept],
            color=MANY[index % len(MANY)],
            marker=MARKERS[index % len(MARKERS)],
            label=row.name.replace("**", ""),
        )


def _gigabytes(row: Shipped) -> float | None:
    return None if row.bytes is None else round(row.bytes / 1e9, 2)


def _prefill(row: Shipped) -> float | None:
    return next((one.prefill / 1e3 for one in row.speeds or () if one.prefill), None)


def _place(rows: Sequence[Shipped]) -> str:
    places = [one.where for row in rows for one in row.speeds or () if one.prefill]
    return f"thousand tokens a second, {places[0]}" if places else ""
