"""`python -m lab.bench cpu` (or `h200`): measure capture, surgery and the pruned model, write JSON.

The suite `parallel` is for several accelerators of one host, under torchrun with a process for each, a row a
launch: the processes of a launch can meet once.
"""

import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import click
import torch

from lab.bench import growth, pruning_speed, serving
from lab.bench.setup import Record, Setup
from lab.bench.together import side_by_side, twice
from secateurs.errors import InputError
from secateurs.progress import is_first
from stages.common.console import stage

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BF16, F32 = torch.bfloat16, torch.float32

# Suite -> row -> what is measured, on what. Sizes are such that a suite takes minutes.
SUITES = {
    "cpu": {
        "capture": (pruning_speed.capture_speed, Setup("SmolLM2-135M", CPU, F32, 16, 256, 2)),
        "surgery": (pruning_speed.surgery_speed, Setup("SmolLM2-135M", CPU, F32, 32, 256, 8)),
        "likelihoods": (serving.likelihood_speed, Setup("SmolLM2-135M", CPU, F32, 128, 128, 8)),
        "writing": (serving.writing_speed, Setup("SmolLM2-135M", CPU, F32, 32, 128, 32)),
        "serving": (serving.serving_speed, Setup("SmolLM2-135M", CPU, F32, 0, 256, 0)),
        "growth": (growth.growth, Setup("SmolLM2-135M", CPU, F32, 16, 256, 8)),
        "gram": (pruning_speed.gram_error, Setup("SmolLM2-135M", CPU, F32, 0, 0, 0)),
    },
    "h200": {
        "7B capture": (pruning_speed.capture_speed, Setup("Qwen2.5-7B", CUDA, BF16, 128, 2048, 2)),
        "7B surgery": (pruning_speed.surgery_speed, Setup("Qwen2.5-7B", CUDA, BF16, 128, 2048, 8)),
        "7B four rounds": (pruning_speed.four_rounds, Setup("Qwen2.5-7B", CUDA, BF16, 128, 2048, 2)),
        "1.5B likelihoods": (serving.likelihood_speed, Setup("Qwen2.5-1.5B", CUDA, BF16, 16384, 128, 128)),
        "1.5B writing": (serving.writing_speed, Setup("Qwen2.5-1.5B", CUDA, BF16, 1200, 256, 1200)),
        "7B serving": (serving.serving_speed, Setup("Qwen2.5-7B", CUDA, BF16, 0, 2048, 0)),
        "7B growth": (growth.growth, Setup("Qwen2.5-7B", CUDA, BF16, 32, 2048, 4)),
        "gram": (pruning_speed.gram_error, Setup("Qwen2.5-7B", CUDA, BF16, 0, 0, 0)),
        "32B capture": (pruning_speed.whole_rounds, Setup("Qwen2.5-32B", CUDA, BF16, 128, 2048, 1)),
        "32B surgery": (pruning_speed.surgery_alone, Setup("Qwen2.5-32B", CUDA, BF16, 32, 2048, 8)),
        # What surgery holds on the device does not depend on depth (tests/test_gpu.py).
        "32B surgery, 12 layers": (
            pruning_speed.surgery_alone,
            Setup("Qwen2.5-32B", CUDA, BF16, 32, 2048, 8, layers=12),
        ),
    },
    # One text for all, so that what differs is the model.
    "sizes": {
        size: (pruning_speed.by_size, Setup(f"Qwen2.5-{size}", CUDA, BF16, 32, 2048, 2))
        for size in ("0.5B", "1.5B", "7B", "32B")
    },
    "parallel": {
        "7B": (side_by_side, Setup("Qwen2.5-7B", CUDA, BF16, 128, 2048, 2, surgery_batch=8)),
        # In bfloat16 results move by more than what several processes could change; in float32 that shows.
        "135M, float32": (side_by_side, Setup("SmolLM2-135M", CUDA, F32, 128, 512, 8)),
        "135M, float32, one process twice": (twice, Setup("SmolLM2-135M", CUDA, F32, 128, 512, 8)),
    },
}


@stage
@click.argument("suite", type=click.Choice(sorted(SUITES)))
@click.option("--only", multiple=True, help="Rows to measure; all without it.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file; data/bench/SUITE.json without it.")
def main(suite: str, only: tuple[str, ...], out: Path | None) -> None:
    """Measure the rows of SUITE, print them and keep them with those measured before."""
    if suite == "parallel" and len(only) != 1:
        raise click.UsageError(f"parallel: one row a launch: --only, of {', '.join(SUITES[suite])}")
    if unknown := sorted(set(only) - SUITES[suite].keys()):
        raise InputError(f"--only: {unknown[0]}: no row of {suite}, which has {', '.join(SUITES[suite])}")
    path = out or Path("data/bench") / f"{suite}.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, (measure, setup) in SUITES[suite].items():
        if only and name not in only:
            continue
        measured = measure(setup).items()
        if not is_first():
            continue
        # The allocator that knows its peak is the accelerator's.
        shown = [
            (figure, value)
            for figure, value in measured
            if setup.device.type != "cpu" or "peak" not in figure
        ]
        found = {figure: float(f"{value:.4g}") for figure, value in shown}
        rows[name] = {"setup": _plain(setup), "machine": _machine(setup.device), "figures": found}
        _show(name, found)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _plain(setup: Setup) -> dict[str, int | str]:
    return {key: value if isinstance(value, int) else str(value) for key, value in asdict(setup).items()}


def _machine(device: torch.device) -> dict[str, int | str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    libraries = {library: version(library) for library in ("torch", "transformers")}
    return {"device": name, "cores": os.cpu_count() or 0, "threads": torch.get_num_threads(), **libraries}


def _show(name: str, found: Record) -> None:
    for figure, value in found.items():
        click.echo(f"{name:16} {figure:50} {value:>12.4g}")


if __name__ == "__main__":
    main()
