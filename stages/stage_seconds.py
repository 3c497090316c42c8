"""Tool: where the time of each stage went when it last ran: DVC, imports, loading, computing, writing."""

import os
from pathlib import Path

import click

from secateurs.errors import InputError
from secateurs.files.json_file import write_json
from stages.common.console import stage
from stages.common.paths import TIMES
from stages.common.stopwatch import read_times
from stages.params.file import read_params
from stages.reporting.spent import HEAD, spent_rows


@stage
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures there too, as JSON."
)
def main(out: Path | None) -> None:
    """Print, for each stage, the seconds that it spent on what, the last time that DVC ran it here."""
    notes = read_times()
    if not notes:
        raise InputError(f"{TIMES}: no stage has run here yet; run `make repro`")
    table = [HEAD, *spent_rows(notes)]
    width = max(len(row[0]) for row in table)
    for first, *others in table:
        click.echo(f"{first:<{width}}" + "".join(f"{cell:>11}" for cell in others))
    if out is not None:
        params = read_params()
        machine = {"processors": os.cpu_count(), "device": params.compute.device}
        stages = {one["stage"]: one["seconds"] for one in notes}
        write_json(out, {"model": params.model.name, **machine, "stages": stages})


if __name__ == "__main__":
    main()
