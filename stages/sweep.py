"""Tool: the experiments of a commit as a table and a figure."""

import csv
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from stages.common.console import stage
from stages.common.dvc import run_dvc
from stages.reporting.comparison import flatten
from stages.reporting.markdown import markdown_table
from stages.reporting.trials import draw_sweep, sweep_table, trial, varied

PARAMS = "params.yaml"
METRICS = "data/metrics.json"
LOCK = "dvc.lock"


@stage
@click.option("--out", type=click.Path(path_type=Path), default="data/sweep", show_default=True)
@click.option("--rev", "revisions", multiple=True, help="Commits whose experiments count; without it, HEAD.")
@click.option("--by", metavar="SETTING", help="Colour the figure by a setting, such as mask.metric.")
def main(out: Path, revisions: tuple[str, ...], by: str | None) -> None:
    """Write sweep.md, sweep.csv and sweep.png of all finished `dvc exp run` results; print the table."""
    states = list(_states(revisions))
    trials = [trial(name, params, metrics) for name, params, metrics in states]
    if not trials:
        raise InputError("no run has metrics yet; `dvc repro`, or queue experiments and start the queue")
    if by is not None and by not in varied(trials):
        raise InputError(f"--by: {by}: the runs differ in {', '.join(varied(trials)) or 'no setting'}")
    columns, rows = sweep_table(trials)
    with atomic(out) as directory:
        directory.mkdir()
        # All runs share a dense model as a rule; where they do not, the first one is drawn.
        drawn = draw_sweep(trials, trial("dense", {}, states[0][2], "dense"), by)
        (directory / "sweep.png").write_bytes(drawn.png)
        with (directory / "sweep.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
        text = f"{markdown_table(columns, rows)}\n\n![Perplexity and accuracy by size](sweep.png)\n"
        (directory / "sweep.md").write_text(text, encoding="utf-8")
    _print(columns, rows)
    click.echo(f"sweep: {len(trials)} runs in {out}")


def _states(revisions: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, params, metrics) of the commits and of their experiments that ran with their params."""
    shown = run_dvc(
        "exp", "show", "--json", *(part for revision in revisions for part in ("--rev", revision))
    )
    for commit in json.loads(shown):
        if commit["rev"] == "workspace":
            continue
        yield from _finished(commit["name"] or commit["rev"][:7], commit)
        for experiment in commit["experiments"] or []:
            # A list of checkpoints, the last state first.
            last = experiment["revs"][0]
            name = last["name"] or last["rev"][:7]
            state = (experiment.get("executor") or {}).get("state", "success").lower()
            if state != "success":
                # One that waits, runs or failed has the metrics of the commit that it started from.
                click.echo(f"sweep: {name} left out: {state}", err=True)
                continue
            yield from _finished(name, last)


def _finished(name: str, state: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    data = state["data"] or {}
    metrics = data.get("metrics", {}).get(METRICS, {}).get("data")
    if not metrics:
        return
    params = data["params"][PARAMS]["data"]
    # What else ran or did not (the model card, an export) says nothing of the metrics.
    stages = _way(_locked_stages(state["rev"]))
    changed = _changed_since(stages, params)
    if changed:
        click.echo(f"sweep: {name} left out: {changed} is not what its metrics were made with", err=True)
        return
    stale = _stale(stages)
    if stale:
        click.echo(f"sweep: {name} left out: {stale} did not run on what the stage before it made", err=True)
        return
    yield name, params, metrics


def _locked_stages(revision: str) -> dict[str, Any]:
    """What dvc.lock says at a revision of each stage's last run."""
    shown = subprocess.run(
        ["git", "show", f"{revision}:{LOCK}"], capture_output=True, text=True, check=False
    ).stdout
    stages: dict[str, Any] = (YAML(typ="safe").load(shown) or {}).get("stages", {}) if shown else {}
    return stages


def _way(stages: Mapping[str, Any]) -> dict[str, Any]:
    """The stages on the way to the metrics, of dvc.lock's; all of them where none makes the metrics."""
    made = {out["path"]: name for name, one in stages.items() for out in one.get("outs", [])}
    if METRICS not in made:
        return dict(stages)
    found, waiting = set(), {made[METRICS]}
    while waiting:
        found |= waiting
        read = {dep["path"] for name in waiting for dep in stages[name].get("deps", [])}
        waiting = {made[path] for path in made if any(_overlap(path, other) for other in read)} - found
    return {name: one for name, one in stages.items() if name in found}


def _overlap(path: str, other: str) -> bool:
    """Whether two paths are one, or one is a folder with the other in it (data/sources is read whole)."""
    return f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/")


def _stale(stages: Mapping[str, Any]) -> str | None:
    """A stage that read something else than is there now; or None.

    So it is where a run was of a part of the pipeline: `dvc exp run surgery` keeps the metrics of before.
    """
    made = {out["path"]: out["md5"] for one in stages.values() for out in one.get("outs", [])}
    for name, one in stages.items():
        for read in one.get("deps", []):
            if made.get(read["path"], read["md5"]) != read["md5"]:
                return name
    return None


def _changed_since(stages: Mapping[str, Any], params: Mapping[str, Any]) -> str | None:
    """A setting of params.yaml that is another one in dvc.lock, as of the run; or None."""
    settings = flatten(params)
    for one, locked in stages.items():
        for name, value in locked.get("params", {}).get(PARAMS, {}).items():
            if "@" in one and not any(f"{key}.".startswith(f"{name}.") for key in settings):
                # The source of a domain that is gone: DVC leaves its stage in dvc.lock.
                continue
            whole = flatten({name: value})
            if any(settings.get(key, ...) != told for key, told in whole.items()):
                return str(name)
    return None


def _print(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in [columns, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
