"""Two states of the project side by side: settings, measures, and which measures became worse."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote

from secateurs.evaluation.untrusted import MOST_ENTRIES, as_json, code, entries, numbers, within, words
from stages.reporting.markdown import markdown_table
from stages.reporting.metrics import Metrics

Flat = dict[str, Any]

# In characters, of the 65,536 that a comment holds; the rest is for what stands around the tables.
MOST_PARAMS, MOST_METRICS, MOST_FIGURES = 15_000, 30_000, 10_000
MOST_ROWS, MOST_NAMED = 150, 12

HIGHER_IS_BETTER = frozenset({"accuracy", "kept"})
LOWER_IS_BETTER = frozenset(
    {
        "perplexity",
        "bits_per_byte",
        "parameters",
        "decoder_parameters",
        "macs_per_token",
        "weight_bytes",
    }
)
ALWAYS_SHOWN = (
    "perplexity.geometric_mean",
    "accuracy.mean",
    "kept.worst",
    "kept.mean",
    "macs_per_token",
    "decoder_parameters",
)
NOTE = (
    "`before → after` where a number changed. Change: of the ratio pruned / dense, or of the pruned model "
    "where there is no ratio. An accuracy is neither better nor worse where its change, relative to the "
    "dense model on the same items, is within its standard error. Times, which differ from run to run, are "
    "no measure."
)


@dataclass(frozen=True)
class Side:
    """One state: its label, params.yaml, data/metrics.json, and each figure's (address, content id)."""

    label: str
    params: Mapping[str, Any]
    metrics: Metrics
    figures: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Measure:
    """A row: (before, after) of the dense model, the pruned model and their ratio; None where there is none.

    `change` is relative; `verdict` is better, worse, within the standard error, or nothing.
    """

    name: str
    dense: tuple[Any, Any]
    pruned: tuple[Any, Any]
    ratio: tuple[Any, Any]
    change: float | None
    verdict: str


def compare(before: Side, after: Side) -> str:
    """Markdown: params, measures with regressions marked, figures of both sides.

    Fits in a comment with what else goes there: of too much, the rest is left out, which is said. What the
    sides hold is shown as text, whatever it says.
    """
    (old, left), (new, also) = numbers(before.metrics), numbers(after.metrics)
    rows = list(measures(old, new))
    parts = [f"## {words(after.label)} against {words(before.label)}", _summary(rows)]
    parts += ["### Params", _params(before, after), "### Metrics"]
    shown = [row for row in rows if _changed(row) or row.name in ALWAYS_SHOWN]
    if shown:
        columns = ("measure", "dense", "pruned", "ratio", "change", "")
        # What got worse is what a review is for: where not all fit, it is among those that do.
        shown.sort(key=lambda row: row.verdict != "**worse**" if len(shown) > MOST_ROWS else 0)
        parts.append(_table(columns, map(_cells, shown), MOST_METRICS, "measures"))
        parts.append(NOTE + f" {len(rows) - len(shown)} more measures are unchanged.")
    else:
        parts.append(f"Neither {words(before.label)} nor {words(after.label)} has metrics.")
    strange = list(dict.fromkeys(name for name in [*left, *also] if not name.startswith("calibration.")))
    if strange:
        named = ", ".join(map(code, strange[:MOST_NAMED]))
        parts.append(f"{len(strange)} entries of data/metrics.json are not numbers and left out: {named}.")
    parts += ["### Figures", *within(list(_figures(before, after)), MOST_FIGURES, "figures")]
    return "\n\n".join(parts) + "\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], most: int, what: str) -> str:
    head, line, *body = markdown_table(columns, rows).split("\n")
    return "\n".join([head, line, *within(body, most, what)])


def measures(before: Metrics, after: Metrics) -> Iterator[Measure]:
    """Every measure of the two metrics, in their order."""
    kinds = ("dense", "pruned", "ratio")
    old, new = ({kind: dict(entries(metrics.get(kind))) for kind in kinds} for metrics in (before, after))
    names = dict.fromkeys(name for side in (new, old) for kind in kinds for name in side[kind])
    for name in names:
        if name.split(".")[0] not in HIGHER_IS_BETTER | LOWER_IS_BETTER or name.endswith(
            ("stderr", ".items")
        ):
            continue
        dense, pruned, ratio = ((old[kind].get(name), new[kind].get(name)) for kind in kinds)
        # Between two settings of the evaluation, the ratio is what can be compared.
        first, second = ratio if None not in ratio else pruned
        change = second / first - 1 if first and second is not None else None
        within = _within_error(name, before, after, dense, pruned)
        yield Measure(name, dense, pruned, ratio, change, _verdict(name, change, within))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Flat:
    """Nested mappings as `a.b.c: value`."""
    flat: Flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _within_error(
    name: str, before: Metrics, after: Metrics, dense: tuple[Any, Any], pruned: tuple[Any, Any]
) -> bool:
    """Whether an accuracy moved by less than its standard error, up or down.

    Where both sides have differences to their dense models on the same items, what moved is pruned - dense,
    and the error is that of the two, sqrt(e1^2 + e2^2); else it is the accuracy and its own error.
    """
    group, _, rest = name.partition(".")
    if group not in HIGHER_IS_BETTER or None in pruned:
        return False
    task = rest.rpartition(".")[0] or rest
    apart: list[Any] = [
        dict(entries(side.get("difference"))).get(f"{group}.{task}_stderr") for side in (before, after)
    ]
    if None not in dense and None not in apart:
        move = (pruned[1] - dense[1]) - (pruned[0] - dense[0])
        error = math.hypot(*apart)
    else:
        error = dict(entries(after.get("pruned"))).get(f"{name}_stderr", 0.0)
        move = pruned[1] - pruned[0]
    return bool(abs(move) < error)


def _verdict(name: str, change: float | None, within_error: bool) -> str:
    group = name.split(".")[0]
    if not change:
        return ""
    if within_error:
        return "within the standard error"
    return "better" if (change > 0) == (group in HIGHER_IS_BETTER) else "**worse**"


def _summary(rows: list[Measure]) -> str:
    worse = [row.name for row in rows if row.verdict == "**worse**"]
    better = [row.name for row in rows if row.verdict == "better"]
    if not worse and not better:
        return "No measure got better or worse."
    more = f" and {len(worse) - MOST_NAMED} more" if len(worse) > MOST_NAMED else ""
    named = f": {', '.join(map(code, worse[:MOST_NAMED]))}{more}" if worse else ""
    return f"{len(worse)} measures worse, {len(better)} better{named}."


def _params(before: Side, after: Side) -> str:
    old, new = (
        {name: as_json(value) for name, value in islice(entries(side.params), MOST_ENTRIES)}
        for side in (before, after)
    )
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    if not names:
        return "No setting changed."
    sides = [[code(side[name]) if name in side else "not there" for name in names] for side in (old, new)]
    rows = zip(map(code, names), *sides, strict=True)
    return _table(("setting", "before", "after"), rows, MOST_PARAMS, "settings")


def _changed(row: Measure) -> bool:
    return any(old != new for old, new in (row.dense, row.pruned, row.ratio))


def _cells(row: Measure) -> tuple[str, ...]:
    pairs = [_pair(*pair) for pair in (row.dense, row.pruned, row.ratio)]
    change = "" if not row.change else f"{row.change:+.1%}"
    return (code(row.name), *pairs, change, row.verdict)


def _pair(old: Any, new: Any) -> str:
    if old is None and new is None:
        return ""
    texts = ["none" if value is None else f"{value:,}" for value in (old, new)]
    return texts[0] if old == new else " → ".join(texts)


def _figures(before: Side, after: Side) -> Iterator[str]:
    names = list(dict.fromkeys([*after.figures, *before.figures]))
    same = []
    for name in names:
        sides = [side.figures.get(name) for side in (before, after)]
        if sides[0] and sides[1] and sides[0][1] == sides[1][1]:
            same.append(f"[{words(name)}]({_address(sides[1][0])})")
            continue
        cells = ["not there" if side is None else f"![{words(name)}]({_address(side[0])})" for side in sides]
        yield f"| {words(name)}, before | after |\n| --- | --- |\n| {' | '.join(cells)} |"
    if same:
        yield f"The same on both sides: {', '.join(same)}."
    if not names:
        yield "Neither side has figures."


def _address(address: str) -> str:
    return quote(address, safe="/:.-_~%?=&")
