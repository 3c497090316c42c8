"""What a run of everything takes on this machine, as lines of text: time, memory, disk."""

from secateurs.choose.options import Options
from secateurs.devices.placement import resolve_device
from secateurs.estimate.memory_needs import memory_needs
from secateurs.estimate.streaming_needs import streaming_lines
from secateurs.estimate.work import EFFICIENCY, Work, measure_speed
from secateurs.evaluation.units import count, duration, size
from stages.params.file import Params
from stages.params.method_settings import method_settings
from stages.planning.architecture import Architecture
from stages.planning.estimate import START_SECONDS, estimate_work, reading_of
from stages.planning.machine import this_machine, warnings
from stages.planning.recovery_memory import cache_bytes, recovery_lines


def costs(params: Params, found: Architecture, tried: Options | None = None) -> list[str]:
    """The estimate by stage and what does not fit; tried: by the trials of `prune.sites: auto`."""
    device, dtype = resolve_device(params.compute.device), params.compute.dtype
    work = estimate_work(params, found.model, tried)
    memory = memory_needs(found.model, method_settings(params), reading_of(params), device.type)
    speed = measure_speed(device, dtype)
    seconds = [one.seconds(EFFICIENCY * speed, START_SECONDS) for one in work]
    disk = sum(one.runs * one.disk for one in work)
    most = max(memory, key=lambda name: memory[name].usual)
    machine = this_machine(device)
    left = (found.download or 0) + cache_bytes(params)
    fetched = "bytes that the hub does not tell" if found.download is None else size(found.download)
    least = max(need.least for need in memory.values())
    smaller = "" if least == memory[most].usual else f" (smaller batches need {size(least)} at least)"
    return [
        f"Estimate for {params.model.name}, {count(found.model.num_parameters())} parameters "
        f"({found.where}), with nothing cached:",
        f"  {'':<22}{'runs':>5}{'tokens a run':>14}{'time':>16}{'disk':>12}",
        *map(_line, work, seconds),
        f"  {'together':<41}{duration(sum(seconds)):>16}{size(disk):>12}",
        f"Memory: {size(memory[most].usual)} at once, in {most}{smaller}; this machine has "
        f"{size(machine.memory)} ({machine.kind}).",
        *streaming_lines(found.model, method_settings(params), reading_of(params)),
        *recovery_lines(params, found.model, machine),
        f"Weights to download: {fetched}. Text and tasks come on top.",
        f"Time rests on {speed / 1e9:,.0f} GFLOP/s, measured just now in {dtype} matrix products on "
        f"{device.type},",
        f"of which stages are taken to reach {EFFICIENCY:.0%}; it can be off by a factor of two. DVC's cache "
        "shares these blocks",
        "where the file system links them, and else doubles them.",
        *(["evaluate.limit: 0: all items of the tasks come on top."] if params.evaluate.limit == 0 else []),
        *(f"Warning: {one}" for one in warnings(params, machine, memory, disk + left)),
    ]


def _line(work: Work, seconds: float) -> str:
    tokens = f"{work.tokens:,}" if work.tokens else ""
    disk = size(work.runs * work.disk) if work.disk else ""
    return f"  {work.name:<22}{work.runs:>5}{tokens:>14}{duration(seconds):>16}{disk:>12}".rstrip()
