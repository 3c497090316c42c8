"""Tool: how long a checkpoint takes beside the dense one, and how much memory, on this machine.

Times differ from run to run, so they are no output of the pipeline: git ignores data/timings.json, and
metrics, figures and pages hold none.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from secateurs.devices.placement import place
from secateurs.evaluation.circumstances import circumstances
from secateurs.evaluation.latency import compare_latency
from secateurs.evaluation.peak_memory import peak_memory
from secateurs.files.json_file import write_json
from stages.common.checkpoints import load_config, load_model
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import DATA, MODEL, TIMINGS
from stages.params.file import Params, read_params
from stages.planning.early_checks import check_context
from stages.reporting.speed import files_of, read_timings


@stage
@click.argument("name", type=click.Choice(["pruned", "recovered"]), default="pruned")
@click.option("--again", is_flag=True, help="Measure even where data/timings.json has these checkpoints.")
def main(name: str, again: bool) -> None:
    """Time data/NAME and data/model in turn, unless that was done, and write data/timings.json."""
    params = read_params()
    hold(TIMINGS)
    settings = _settings(params)
    known = read_timings(name)
    if known is not None and known["settings"] == settings and not again:
        return
    checkpoints = {"dense": MODEL, name: DATA / name}
    for checkpoint in checkpoints.values():
        check_context(load_config(checkpoint), params)
    before = {one: files_of(checkpoint) for one, checkpoint in checkpoints.items()}
    found = {"files": before, "settings": settings} | _measure(params, *checkpoints.values())
    others = {one: timings for one in ("pruned", "recovered") if (timings := read_timings(one)) is not None}
    write_json(TIMINGS, others | {name: found})
    summary("timings", f"{name} beside dense, {params.evaluate.repeats} pairs, in {TIMINGS}")


def _settings(params: Params) -> dict[str, Any]:
    work = ("prompt_tokens", "decode_tokens", "repeats")
    asked = {key: getattr(params.evaluate, key) for key in work}
    return circumstances(params.compute.dtype, params.compute.device) | asked


def _measure(params: Params, dense: Path, other: Path) -> dict[str, Any]:
    settings, dtype, device = params.evaluate, params.compute.dtype, params.compute.device
    # Measured first, while this process holds no model that could crowd the other out.
    memory = {
        name: peak_memory(checkpoint, dtype, device, settings.prompt_tokens, settings.decode_tokens)
        for name, checkpoint in (("against", dense), ("this", other))
    }
    models = [place(load_model(checkpoint, dtype), device) for checkpoint in (other, dense)]
    work = (settings.prompt_tokens, settings.decode_tokens, settings.repeats)
    return {"memory": memory, "latency": asdict(compare_latency(models[0], models[1], *work))}


if __name__ == "__main__":
    main()
