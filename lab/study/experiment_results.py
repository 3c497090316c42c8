"""The results of experiments, and the CSV file of them that is committed."""

import csv
import io
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from secateurs.errors import InputError
from secateurs.files.atomic import atomic

COLUMNS = (
    "experiment",
    "params",
    "settings",
    "removed",
    "parameters",
    "dense parameters",
    "accuracy",
    "accuracy stderr",
    "dense accuracy",
    "dense accuracy stderr",
    "seconds",
)
PRUNED, DENSE = "pruned: ", "dense: "


@dataclass(frozen=True)
class Scores:
    """One model of an experiment: its parameters, held-out perplexity by domain, and (mean, standard error)
    of the zero-shot accuracies, None where no tasks were run."""

    parameters: int
    perplexity: Mapping[str, float]
    accuracy: tuple[float, float] | None

    @property
    def mean(self) -> float:
        """Geometric mean of the perplexities: every domain counts alike."""
        return math.exp(math.fsum(map(math.log, self.perplexity.values())) / len(self.perplexity))


@dataclass(frozen=True)
class Result:
    """An experiment's name, the digest of its params, what `-S` had changed of them, and both models.

    removed: share of the decoder's parameters that pruning removed. seconds: of capture, mask and surgery
    together, None where unknown.
    """

    experiment: str
    params: str
    settings: tuple[str, ...]
    removed: float
    dense: Scores
    pruned: Scores
    seconds: float | None

    @property
    def ratio(self) -> float:
        """Held-out perplexity, pruned / dense, of the geometric means."""
        return self.pruned.mean / self.dense.mean

    def ratio_of(self, domain: str) -> float:
        """Held-out perplexity of one domain, pruned / dense."""
        return self.pruned.perplexity[domain] / self.dense.perplexity[domain]


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write a CSV with a row for each result; the file is whole at any time."""
    rows = [_row(one) for one in results]
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic(path) as file:
        file.write_text(text.getvalue(), encoding="utf-8")


def read_results(path: Path) -> dict[str, Result]:
    """Read what write_results wrote, by experiment; nothing where there is no file."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {row["experiment"]: _result(row) for row in rows}
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a table of study results: {error}") from None


def _row(one: Result) -> dict[str, str]:
    accuracies = [*(one.pruned.accuracy or (None, None)), *(one.dense.accuracy or (None, None))]
    values = (
        one.experiment,
        one.params,
        shlex.join(one.settings),
        f"{one.removed:.4f}",
        str(one.pruned.parameters),
        str(one.dense.parameters),
        *("" if value is None else f"{value:.4f}" for value in accuracies),
        "" if one.seconds is None else f"{one.seconds:.1f}",
    )
    row = dict(zip(COLUMNS, values, strict=True))
    for prefix, scores in ((PRUNED, one.pruned), (DENSE, one.dense)):
        row |= {f"{prefix}{domain}": f"{value:.3f}" for domain, value in scores.perplexity.items()}
    return row


def _result(row: Mapping[str, str]) -> Result:
    def scores(prefix: str, accuracy: str, parameters: str) -> Scores:
        perplexity = {
            name.removeprefix(prefix): float(value)
            for name, value in row.items()
            if name.startswith(prefix) and value
        }
        mean = (float(row[accuracy]), float(row[f"{accuracy} stderr"])) if row[accuracy] else None
        return Scores(int(row[parameters]), perplexity, mean)

    return Result(
        row["experiment"],
        row["params"],
        tuple(shlex.split(row["settings"])),
        float(row["removed"]),
        scores(DENSE, "dense accuracy", "dense parameters"),
        scores(PRUNED, "accuracy", "parameters"),
        float(row["seconds"]) if row["seconds"] else None,
    )
