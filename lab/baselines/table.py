"""The records as text, Markdown, CSV and a figure."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from statistics import geometric_mean
from typing import Any

import matplotlib.pyplot as plt

from lab.baselines.table_rows import DENSE
from secateurs.evaluation.scores import averaged, headline, kept
from stages.reporting.markdown import markdown_table
from stages.reporting.metrics import mean_accuracy
from stages.reporting.style import INK, MANY, MARKERS, WIDTH, Picture, house_style, picture

Record = dict[str, Any]
Cells = tuple[str, ...]

NOTE = (
    "Removed: share of the decoder layers' parameters. Perplexity: geometric mean over the held-out domains "
    "that the methods read text of{left_out}, divided by the dense model's. "
    "Zero-shot: mean accuracy over tasks that compare choices; difference: row - dense, on the same items, "
    "and row - ours alike; ± is one standard error. Kept: row / dense, of zero-shot and of each task in "
    "which the model writes. Seconds and memory of the accelerator: of making the "
    "row's model, the dense model loaded, its scoring left out; optipfair's seconds are of a process of its "
    "own, with its start and loading."
)


def columns(dense: Record, left_out: Collection[str]) -> Cells:
    """The names of the columns; left_out: domains that no method read."""
    written = [task for task in dense["accuracy"] if task not in averaged(dense["accuracy"])]
    unread = (f"left out: {', '.join(left_out)}",) if left_out else ()
    first = ("method", "removed", "parameters", "GB", "perplexity / dense", *unread)
    return (
        *first,
        "zero-shot",
        "difference",
        "row - ours",
        *written,
        *_kept_columns(dense),
        "seconds",
        "GiB",
    )


def _kept_columns(dense: Record) -> Cells:
    """The names of the shares kept; none where the tasks make one column."""
    return () if kept(dense["accuracy"], dense["accuracy"]) is None else ("worst kept", "mean kept")


def cells(record: Record, dense: Record, left_out: Collection[str]) -> Cells:
    """A row of the table; what failed has its reason in the second column."""
    if "failed" in record:
        rest = len(columns(dense, left_out)) - 2
        return (record["title"], f"failed: {record['failed'].replace('|', '/')}", *[""] * rest)
    read = [name for name in dense["perplexity"] if name not in left_out]
    written = [task for task in dense["accuracy"] if task not in averaged(dense["accuracy"])]
    mean = mean_accuracy(record)
    memory = record["memory_bytes"]
    shares = kept(record["accuracy"], dense["accuracy"])
    return (
        record["title"],
        f"{record['removed']:.1%}",
        f"{record['parameters'] / 1e6:,.0f} M",
        f"{record['bytes'] / 1e9:.2f}",
        _ratio(record, dense, read),
        *((_ratio(record, dense, left_out),) if left_out else ()),
        "" if mean is None else _with_error(*mean),
        _apart(record["difference"]),
        _apart(record["difference_from_ours"]),
        *(_with_error(*headline(record["accuracy"][task])) for task in written),
        *(() if shares is None else (f"{shares.worst:.3f}", f"{shares.mean:.3f}")),
        f"{record['seconds']:.1f}",
        "" if memory is None else f"{memory / 2**30:.1f}",
    )


def markdown(records: Sequence[Record], left_out: Collection[str]) -> str:
    """The tables, one for each share, and one of every task."""
    dense = _dense(records)
    names = columns(dense, left_out)
    note = NOTE.format(left_out=", and over those that no method read" if left_out else "")
    parts = ["# Other methods", note]
    for share in dict.fromkeys(one["share"] for one in records):
        rows = [cells(one, dense, left_out) for one in records if one["share"] == share]
        parts += [
            "## No pruning" if share == 0 else f"## {share:.0%} of the decoder",
            markdown_table(names, rows),
        ]
    tasks = list(dense["accuracy"])
    rows = [
        (
            one["title"],
            f"{one['share']:.0%}",
            *(_with_error(*headline(one["accuracy"][task])) for task in tasks),
        )
        for one in records
        if "failed" not in one
    ]
    return "\n\n".join([*parts, "## Every task", markdown_table(("method", "share", *tasks), rows)]) + "\n"


def csv_text(records: Sequence[Record], left_out: Collection[str]) -> str:
    """The same rows as CSV, the share first."""
    dense = _dense(records)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("share", *columns(dense, left_out)))
    writer.writerows((f"{one['share']:g}", *cells(one, dense, left_out)) for one in records)
    return stream.getvalue()


def figure(records: Sequence[Record], left_out: Collection[str]) -> Picture:
    """Perplexity on what the methods read text of, and zero-shot accuracy, against bytes of the weights."""
    dense = _dense(records)

    def perplexity(record: Record) -> tuple[float, float]:
        read = [name for name in record["perplexity"] if name not in left_out]
        return float(_ratio(record, dense, read)), 0.0

    fine = [one for one in records if "failed" not in one]
    panels = [("held-out perplexity / dense\n(geometric mean, lower is better)", perplexity)]
    if mean_accuracy(dense) is not None:
        panels.append(("zero-shot accuracy\n(mean ± standard error)", _accuracy))
    with house_style():
        drawn, axes = plt.subplots(
            len(panels), figsize=(WIDTH, 1.6 + 2.7 * len(panels)), squeeze=False, sharex=True
        )
        for panel, (label, value) in zip(axes[:, 0], panels, strict=True):
            for index, title in enumerate(dict.fromkeys(one["title"] for one in fine)):
                own = [one for one in fine if one["title"] == title]
                colour = INK if title == DENSE else MANY[index % len(MANY)]
                places = [one["bytes"] / 1e9 for one in own]
                panel.errorbar(
                    places,
                    [value(one)[0] for one in own],
                    yerr=[value(one)[1] for one in own],
                    color=colour,
                    marker=MARKERS[index % len(MARKERS)],
                    linewidth=0.8,
                    markersize=5,
                    label=title,
                )
            panel.set_ylabel(label)
        axes[0, 0].set_yscale("log")
        for part in ("major", "minor"):
            getattr(axes[0, 0].yaxis, f"set_{part}_formatter")("{x:g}")
        axes[-1, 0].set_xlabel("weights (GB)")
        drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7)
        return picture(drawn)


def _dense(records: Sequence[Record]) -> Record:
    return next(one for one in records if one["key"] == DENSE)


def _ratio(record: Record, dense: Record, domains: Collection[str]) -> str:
    """Geometric mean over the domains of perplexity, relative to the dense model's."""
    ratios = [record["perplexity"][name] / dense["perplexity"][name] for name in domains]
    return f"{geometric_mean(ratios):.3f}"


def _accuracy(record: Record) -> tuple[float, float]:
    return mean_accuracy(record) or (float("nan"), 0.0)


def _apart(difference: Mapping[str, float]) -> str:
    return f"{difference['mean']:+.4f} ± {difference['mean_stderr']:.4f}" if "mean" in difference else ""


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}"
