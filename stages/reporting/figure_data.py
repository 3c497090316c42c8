"""What the report's figures show, as tables: for DVC's plots, where experiments lie over each other."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from secateurs.evaluation.scores import headline
from secateurs.kinds.names import parse_name
from stages.reporting.metrics import Evidence

Rows = Sequence[dict[str, Any]]


def figure_tables(evidence: Evidence) -> dict[str, str]:
    """Each table of TABLES as CSV with a header, by the name of its figure."""
    return {name: _csv(columns, rows(evidence)) for name, (columns, rows) in TABLES.items()}


def _csv(columns: Sequence[str], rows: Rows) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _perplexity(evidence: Evidence) -> Rows:
    dense, pruned = (one["perplexity"]["domains"] for one in (evidence.dense, evidence.pruned))
    return [
        {
            "domain": domain,
            "dense": round(score["perplexity"], 3),
            "pruned": round(pruned[domain]["perplexity"], 3),
            "ratio": round(pruned[domain]["perplexity"] / score["perplexity"], 4),
        }
        for domain, score in dense.items()
    ]


def _accuracy(evidence: Evidence) -> Rows:
    rows = []
    for model, evaluation in (("dense", evidence.dense), ("pruned", evidence.pruned)):
        for task, accuracy in evaluation["accuracy"].items():
            value, error = headline(accuracy)
            low, high = round(value - error, 4), round(value + error, 4)
            rows.append({"task": task, "model": model, "accuracy": round(value, 4), "low": low, "high": high})
    return rows


def _healing(evidence: Evidence) -> Rows:
    return [
        {
            "layer": one["layer"],
            "site": parse_name(one["site"]).kind,
            "state": state,
            "missed": round(one[key], 6),
        }
        for key, state in (("before", "cut"), ("after", "healed"))
        for one in evidence.healing
    ]


def _kept(evidence: Evidence) -> Rows:
    return [
        {"layer": layer, "site": kind, "round": entry["round"], "kept": kept}
        for entry in evidence.rounds
        for kind, widths in entry["kept"].items()
        for layer, kept in enumerate(widths)
    ]


def _agreement(evidence: Evidence) -> Rows:
    found = evidence.rounds[-1]["agreement"]
    return [
        {"domain": one, "other": other, "correlation": round(found["matrix"][row][column], 4)}
        for row, one in enumerate(found["domains"])
        for column, other in enumerate(found["domains"])
        if row != column
    ]


TABLES: dict[str, tuple[Sequence[str], Callable[[Evidence], Rows]]] = {
    "perplexity_by_domain": (("domain", "dense", "pruned", "ratio"), _perplexity),
    "accuracy_by_task": (("task", "model", "accuracy", "low", "high"), _accuracy),
    "healing_error": (("layer", "site", "state", "missed"), _healing),
    "kept_channels": (("layer", "site", "round", "kept"), _kept),
    "domain_agreement": (("domain", "other", "correlation"), _agreement),
}
