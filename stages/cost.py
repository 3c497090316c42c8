"""Stage: what a checkpoint costs: parameters, bytes, memory, and time beside another one's."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from secateurs.devices.placement import place
from secateurs.evaluation.circumstances import circumstances
from secateurs.evaluation.cost import measure_size
from secateurs.evaluation.latency import compare_latency
from secateurs.evaluation.memory import peak_memory
from secateurs.files.json_file import write_json
from stages.common.checkpoints import load_config, load_model
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import EVALUATIONS
from stages.params.file import read_params
from stages.planning.checks import check_context


@stage
@click.argument("name", type=click.Choice(["dense", "pruned", "recovered"]))
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True, help="Directory to measure.")
@click.option("--against", type=click.Path(path_type=Path), help="Directory to compare latencies with.")
def main(name: str, checkpoint: Path, against: Path | None) -> None:
    """Measure a checkpoint and write data/evaluations/NAME/cost.json."""
    params = read_params()
    hold(EVALUATIONS / name / "cost.json")
    check_context(load_config(checkpoint), params)
    settings, dtype, device = params.evaluate, params.compute.dtype, params.compute.device
    # Measured first, while this process holds no model that could crowd the other out.
    memory = peak_memory(checkpoint, dtype, device, settings.prompt_tokens, settings.decode_tokens)
    model = place(load_model(checkpoint, dtype), device)
    size = measure_size(model, checkpoint)
    result: dict[str, Any] = {"cost": asdict(size) | {"peak_memory_bytes": memory}}
    if against is not None:
        other = place(load_model(against, dtype), device)
        work = (settings.prompt_tokens, settings.decode_tokens, settings.repeats)
        result["latency"] = asdict(compare_latency(model, other, *work))
    result["settings"] = circumstances(dtype, device) | {
        "prompt_tokens": settings.prompt_tokens,
        "decode_tokens": settings.decode_tokens,
        "repeats": settings.repeats,
    }
    write_json(EVALUATIONS / name / "cost.json", result)
    summary("cost", f"{name}: {size.parameters / 1e6:,.1f} M parameters, {memory / 1e6:,.0f} MB at most")


if __name__ == "__main__":
    main()
