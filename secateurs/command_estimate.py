"""What `secateurs prune` will take on this machine, said before it begins: time, memory, disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import PreTrainedModel

from secateurs.choose.weight_bytes import FORMATS, GGUF_PRECISIONS
from secateurs.devices.capacity import capacity_of
from secateurs.devices.placement import SHARDED, resolve_device
from secateurs.estimate.auto_sites import standing_in, tried
from secateurs.estimate.memory_needs import fewer_bytes, memory_needs
from secateurs.estimate.read_tokens import Reading
from secateurs.estimate.work import EFFICIENCY, Work, measure_speed, pruning_work
from secateurs.evaluation.cost import macs_per_token
from secateurs.evaluation.units import duration, size
from secateurs.gguf.llama_quantize import K_QUANTS
from secateurs.order import HELDOUT_SEQUENCES, Order
from secateurs.recover.memory import FLOAT, PROGRAM, lacks
from secateurs.settings.method import Settings
from secateurs.settings.pruning import AUTO

# What people call the steps of a pruning.
STEPS = {"kinds": "trials", "capture, each round": "rounds", "surgery": "healing"}


def estimate_lines(order: Order, shapes: PreTrainedModel, dtype: torch.dtype, out: Path) -> Iterator[str]:
    """Time by step, memory and disk of an order, a line each, and a warning for each that does not fit.

    shapes: the dense model, on the meta device or with weights; dtype: that of its weights. Raises InputError
    where `prune.sites: auto` has nothing to try.
    """
    settings, found = order.settings, None
    if settings.prune.sites == AUTO:
        found = tried(settings.prune, settings.mask.metric, shapes)
        settings = settings.changed(prune=standing_in(settings.prune, found))
    name = str(dtype).removeprefix("torch.")
    reading = Reading({source.domain: 1 for source in order.sources}, order.tokens, name)
    work = pruning_work(shapes, settings, reading, found)
    device = resolve_device(settings.device)
    yield _time(order, work, 2.0 * macs_per_token(shapes), (device, name))
    yield from _memory(shapes, settings, reading, device)
    left = work[-1].disk / reading.bytes_each
    yield from _disk(work[-1].disk + _gguf_bytes(order.precision, left), out)


def _time(order: Order, work: list[Work], forward: float, where: tuple[torch.device, str]) -> str:
    """forward: operations of a token; where: device and dtype."""
    speed, models = EFFICIENCY * measure_speed(*where), 2 + (order.recovery is not None)
    judged = models * len(order.sources) * HELDOUT_SEQUENCES * order.tokens
    steps = {STEPS[one.name]: one.seconds(speed) for one in work if one.operations}
    steps["judging"] = judged * forward / speed
    if order.recovery is not None and order.recovery.minutes is not None:
        steps["recovery"] = 60 * order.recovery.minutes
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in steps.items())
    on_top = "; tasks come on top" if order.tasks else ""
    return (
        f"It takes about {duration(sum(steps.values()))} ({parts}{on_top}) by {speed / 1e9:,.0f} GFLOP/s on "
        f"{where[0].type}, which can be off by a factor of two"
    )


def _memory(
    shapes: PreTrainedModel, settings: Settings, reading: Reading, device: torch.device
) -> Iterator[str]:
    """On a CPU the dense model and a copy of it stay beside what a round measures, and one beside surgery."""
    needs, there = memory_needs(shapes, settings, reading, device.type), capacity_of(device)
    copies = 1.1 * shapes.num_parameters() * reading.bytes_each
    host, beside = device.type == "cpu", {"capture": 2 * copies, "surgery": copies}
    least = {name: needs[name].least + (more if host else 0) for name, more in beside.items()}
    usual = {name: needs[name].usual + (more if host else 0) for name, more in beside.items()}
    most = max(usual, key=lambda name: usual[name])
    step = {"capture": "a round", "surgery": "healing"}
    room, three = capacity_of(torch.device("cpu")).memory, PROGRAM + 3 * copies
    in_host = "" if host else f", and {size(three)} of {size(room)} host memory"
    yield (
        f"It needs about {size(usual[most])} of memory at once, in {step[most]}, of {size(there.memory)} "
        f"({there.kind}){in_host}"
    )
    for name, need in least.items():
        if need > there.memory and settings.device != SHARDED:
            tips = [f"--set {tip.replace(': ', '=')}" for tip in fewer_bytes(name, settings, device.type)]
            remedy = " ".join(tips) or "use a larger machine, or --device sharded over several accelerators"
            yield f"Warning: {step[name]} {lacks(need, there)}; {remedy}"
    if not host and three > room:
        yield (
            f"Warning: three copies of the model take about {size(3 * copies)} of host memory, and there are "
            f"{size(room)}; the pipeline (`secateurs init`) holds one at a time"
        )


def _gguf_bytes(precision: str | None, parameters: float) -> float:
    """At most: a K-quant is made of a float32 file, which then goes, and takes less than a byte a weight."""
    if precision is None:
        return 0.0
    if precision in K_QUANTS:
        return (FLOAT + 1) * parameters
    forms = [FORMATS[name] for name in GGUF_PRECISIONS[precision]]
    return parameters * max(form.bytes / form.block for form in forms[:2])


def _disk(written: float, out: Path) -> Iterator[str]:
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    yield f"It writes about {size(written)}, of {size(free)} that are free"
    if written > free:
        yield f"Warning: {out}: about {size(written)} do not fit on a disk with {size(free)} free"
