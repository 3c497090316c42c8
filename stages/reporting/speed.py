"""What data/timings.json says of a checkpoint, as long as it is of the checkpoints that are there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateurs.evaluation.units import size
from secateurs.evaluation.verdict import Speed
from stages.common.artifacts import read_json
from stages.common.paths import DATA, MODEL, TIMINGS
from stages.reporting.page_parts import Row

# Above this share of the processors at work beforehand, times are not those of the model alone.
BUSY = 0.25
PHASES = {"prefill": "prefill_ms", "decode": "decode_ms_per_token"}

Timings = Mapping[str, Any]


def files_of(checkpoint: Path) -> dict[str, list[int]]:
    """Size and time of writing of each weight file: what tells one checkpoint from the next at once."""
    found = {path.name: path.stat() for path in sorted(checkpoint.glob("*.safetensors"))}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}


def read_timings(name: str) -> Timings | None:
    """The timings of data/NAME beside data/model; None where they are of other files, or there are none."""
    if not TIMINGS.exists():
        return None
    found: Timings | None = read_json(TIMINGS).get(name)
    present = {"dense": files_of(MODEL), name: files_of(DATA / name)}
    return found if found is not None and found["files"] == present else None


def speed(timings: Timings, phase: str) -> Speed:
    """The ratio of a phase of PHASES, with its range."""
    key, latency = PHASES[phase], timings["latency"]
    return Speed(*(latency[which][key] for which in ("ratio", "lowest", "highest")))


def timing_rows(timings: Timings) -> list[Row]:
    """Rows of a table: name, dense, the other model, their ratio and its range over the pairs."""
    latency, memory = timings["latency"], timings["memory"]
    rows = []
    for name, phase in (("prefill, ms", "prefill"), ("decode, ms per token", "decode")):
        key, found = PHASES[phase], speed(timings, phase)
        cells = [f"{latency[model][key]:.1f}" for model in ("against", "this")]
        rows.append((name, *cells, f"{found.ratio:.2f} ({found.lowest:.2f} to {found.highest:.2f})"))
    cells = [size(memory[model]) for model in ("against", "this")]
    return [*rows, ("peak memory", *cells, f"{memory['this'] / memory['against']:.2f}")]


def timing_notes(timings: Timings | None) -> list[str]:
    """A line on how the times were taken, and whether something else was at work, or on how to take them."""
    if timings is None:
        return ["not timed here: `python -m stages.timings`"]
    settings, busy = timings["settings"], timings["latency"]["busy"]
    threads = f" ({settings['threads']} threads)" if settings["device"] == "cpu" else ""
    note = (
        f"times: one sequence, a prompt of {settings['prompt_tokens']} tokens, then "
        f"{settings['decode_tokens']} decoded, {settings['dtype']} on {settings['device']}{threads}; "
        f"{settings['repeats']} pairs, the median of their ratios and its range"
    )
    if busy > BUSY:
        note += f"; the machine was busy with something else ({busy:.0%} of its processors)"
    return [note]
