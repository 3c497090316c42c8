"""Tool: a grid of experiments, through DVC or in one process, and the page of their results."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from filelock import FileLock

from lab.study.duration import seconds
from lab.study.experiment_results import Result, read_results, write_results
from lab.study.grid import AXES_FILE, Experiment, Grid, grid
from lab.study.in_process import Laboratory
from secateurs.devices.placement import resolve_device
from secateurs.errors import InputError
from secateurs.estimate.work import EFFICIENCY, measure_speed
from secateurs.evaluation.units import duration
from secateurs.files.atomic import atomic
from stages.common.console import stage
from stages.common.paths import DATA, STUDY
from stages.params.file import PARAMS_FILE, read_params
from stages.params.yaml_file import read_yaml
from stages.planning.architecture import read_shapes

# Commands import DVC's side and the page themselves: `run` also works where nothing that draws is installed.
LOCK = DATA / "study.lock"


GRID = click.option("--grid", "name", default="small", show_default=True, help="A grid of the file of axes.")
AXES = click.option(
    "--axes",
    "file",
    type=click.Path(path_type=Path),
    default=AXES_FILE,
    help="Another file than lab/study/grid.yaml.",
)
AXIS = click.option("--axis", metavar="NAME", help="The experiments of this axis alone.")


@stage
@GRID
@AXES
@AXIS
def plan(name: str, file: Path, axis: str | None) -> None:
    """Print the commands that `queue` would run with nothing there, and how long all would take."""
    from lab.study.experiments import queue_command

    made = _grid(name, file, axis)
    for one in made.experiments():
        click.echo(shlex.join(["dvc", *queue_command(one)]))
    click.echo(_estimate(made.experiments()))


@stage
@GRID
@AXES
@AXIS
def enqueue(name: str, file: Path, axis: str | None) -> None:
    """Queue by `dvc exp run --queue` every experiment that has no result at this commit."""
    from lab.study.experiments import queue

    made = _grid(name, file, axis)
    queued = queue(made.experiments())
    click.echo(
        f"queued {queued} of {len(made.experiments())} experiments; `dvc exp run --run-all` runs the queue"
    )
    click.echo(_estimate(made.experiments()))


@stage
@GRID
@AXES
@AXIS
@click.option("--out", type=click.Path(path_type=Path), help="CSV.  [default: data/study/GRID.csv]")
@click.option(
    "--part", default="1/1", show_default=True, help="Of the experiments: 2/3, the second of three."
)
def run(name: str, file: Path, axis: str | None, out: Path | None, part: str) -> None:
    """Run the experiments in this process, without DVC; what the CSV has is not run again.

    Capture, mask, surgery and held-out perplexity, in memory. Needs data/model, data/sources and
    data/benchmarks as `dvc repro corpus` leaves them. Several processes may add to one CSV, an axis or a part
    of it each.
    """
    experiments = _part(_grid(name, file, axis).experiments(), part)
    out = out or STUDY / f"{name}.csv"
    there = read_results(out)
    waiting = [one for one in experiments if not _has(there, one)]
    click.echo(f"{len(waiting)} of {len(experiments)} experiments to run")
    if not waiting:
        return
    laboratory = Laboratory(DATA, read_params())
    for number, one in enumerate(waiting, 1):
        if _has(read_results(out), one):
            click.echo(f"{number}/{len(waiting)} {one.name}: another process has made it")
            continue
        result = laboratory.result(one)
        with FileLock(LOCK):
            write_results(out, (read_results(out) | {one.name: result}).values())
        click.echo(
            f"{number}/{len(waiting)} {one.name}: {result.removed:.1%} removed, ratio {result.ratio:.3f}"
        )


@stage
@GRID
@AXES
def collect(name: str, file: Path) -> None:
    """Write data/study/GRID.csv of the finished experiments that DVC has, then the page."""
    from lab.study.experiments import finished

    made = _grid(name, file)
    results = finished(made.experiments())
    if not results:
        raise InputError(
            f"no experiment of the {name} grid is finished at this commit; queue them and run the queue"
        )
    write_results(STUDY / f"{name}.csv", results)
    _write_page(made)


@stage
@GRID
@AXES
def page(name: str, file: Path) -> None:
    """Write data/study/GRID.md and its figures from data/study/GRID.csv."""
    _write_page(_grid(name, file))


COMMANDS = {"plan": plan, "queue": enqueue, "run": run, "collect": collect, "page": page}


@click.group(commands=COMMANDS, help=__doc__)
def main() -> None:
    """Do what the command says."""


def _grid(name: str, file: Path, axis: str | None = None) -> Grid:
    read_params()  # names what is wrong in params.yaml before it is taken for a fault of the grid
    params: dict[str, Any] = read_yaml(PARAMS_FILE)
    return grid(name, params, file, axis)


def _part(experiments: list[Experiment], part: str) -> list[Experiment]:
    """Part k of n: experiment number k and every n-th after it.

    Where n is a multiple of the number of draws, a part has one draw of the text, which it then makes once.
    """
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", part)
    if match is None or int(match[1]) > int(match[2]):
        raise InputError(f"--part: {part}: write it as 2/3, the second of three")
    return experiments[int(match[1]) - 1 :: int(match[2])]


def _write_page(made: Grid) -> None:
    from lab.study.study_page import build_page

    there = read_results(STUDY / f"{made.name}.csv")
    results = {one.name: there[one.name] for one in made.experiments() if _has(there, one)}
    built = build_page(made, results, read_params().model.name)
    for file, picture in built.pictures.items():
        with atomic(STUDY / file) as path:
            path.write_bytes(picture.png)
    with atomic(STUDY / f"{made.name}.md") as path:
        path.write_text(built.text, encoding="utf-8")
    click.echo(f"study: {len(results)} of {len(made.experiments())} experiments in {STUDY / made.name}.md")


def _has(results: Mapping[str, Result], one: Experiment) -> bool:
    return one.name in results and results[one.name].params == one.digest


def _estimate(experiments: list[Experiment]) -> str:
    if not (DATA / "model/config.json").exists():
        return "How long they take is unknown until the model is in data/model: `dvc repro model` fetches it."
    params = read_params()
    device = resolve_device(params.compute.device)
    speed = EFFICIENCY * measure_speed(device, params.compute.dtype)
    took = duration(seconds(experiments, read_shapes(DATA / "model"), speed))
    return (
        f"All {len(experiments)} take about {took} through DVC on {device.type} with nothing cached, a stage "
        "that several share counted once. The estimate can be off by a factor of two."
    )


if __name__ == "__main__":
    main()
