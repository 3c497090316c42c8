"""A grid's experiments in DVC: which of them are there, the commands that queue the others, the results."""

import csv
import io
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import click

from lab.study.experiment_results import Result, Scores
from lab.study.grid import Experiment
from secateurs.errors import InputError
from stages.common.dvc import run_dvc
from stages.params.file import Params
from stages.reporting.comparison import flatten

Row = Mapping[str, str]


@dataclass(frozen=True)
class Known:
    """What DVC has at this commit, by name: rows of finished experiments, and names in the queue."""

    done: Mapping[str, Row]
    waiting: frozenset[str]


def known() -> Known:
    """Ask `dvc exp show --csv`."""
    rows = list(csv.DictReader(io.StringIO(run_dvc("exp", "show", "--csv"))))
    # A queued or failed experiment is shown with the metrics of the commit it started from, not its own.
    states: dict[str, list[Row]] = {}
    for row in rows:
        if row["typ"].startswith("branch"):
            # There is no such column before the first experiment.
            states.setdefault(row.get("State", ""), []).append(row)
    done = {row["Experiment"]: row for state in ("", "Success") for row in states.get(state, [])}
    waiting = [row["Experiment"] for state in ("Queued", "Running") for row in states.get(state, [])]
    return Known(done, frozenset(waiting))


def queue(experiments: list[Experiment]) -> int:
    """Queue those that neither have a result nor wait for one, printing each command; how many they were.

    One whose name is taken by an experiment with other settings (the grid or params.yaml has changed) takes
    its place.
    """
    there = known()
    queued = 0
    for one in experiments:
        if one.name in there.waiting or (one.name in there.done and _matches(one, there.done[one.name])):
            continue
        if one.name in there.done:
            _show_and_run("exp", "remove", one.name)
        _show_and_run(*queue_command(one))
        queued += 1
    return queued


def queue_command(one: Experiment) -> list[str]:
    """The arguments of dvc that queue an experiment."""
    return [
        *("exp", "run", "--queue", "--name", one.name),
        *(part for setting in one.settings for part in ("-S", setting)),
    ]


def finished(experiments: list[Experiment]) -> list[Result]:
    """The results of those that DVC has, with these very settings."""
    done = known().done
    return [
        _result(one, done[one.name])
        for one in experiments
        if one.name in done and _matches(one, done[one.name])
    ]


def _matches(one: Experiment, row: Row) -> bool:
    expected = {name: str(value) for name, value in flatten(one.params).items() if value is not None}
    groups = tuple(f"{group}." for group in Params.model_fields)
    # A cell is empty where another experiment has a key that this one lacks, and for null.
    return all(value == expected.get(name, "") for name, value in row.items() if name.startswith(groups))


def _result(one: Experiment, row: Row) -> Result:
    def scores(model: str) -> Scores:
        prefix = f"{model}.perplexity."
        perplexity = {
            name.removeprefix(prefix): float(value)
            for name, value in row.items()
            if name.startswith(prefix) and value and name != f"{prefix}geometric_mean"
        }
        mean = row.get(f"{model}.accuracy.mean")
        accuracy = (float(mean), float(row[f"{model}.accuracy.mean_stderr"])) if mean else None
        return Scores(int(row[f"{model}.parameters"]), perplexity, accuracy)

    try:
        removed = float(row["pruned.sparsity.decoder"])
        return Result(one.name, one.digest, one.settings, removed, scores("dense"), scores("pruned"), None)
    except (KeyError, ValueError) as error:
        raise InputError(f"{one.name}: its data/metrics.json lacks what a study needs: {error}") from None


def _show_and_run(*arguments: str) -> None:
    click.echo(shlex.join(["dvc", *arguments]))
    run_dvc(*arguments)
