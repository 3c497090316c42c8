"""Whether this machine can do what params.yaml asks for."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil
import torch

from stages.params.file import PARAMS_FILE, Params
from stages.planning.estimate import measure_speed

# float32 may be this much slower before it is no longer the better choice on a CPU.
FASTER = 1.2


@dataclass(frozen=True)
class Machine:
    """memory: bytes of the device, in all; free: bytes of the disk with the working directory."""

    kind: str
    device: torch.device
    memory: int
    free: int


def this_machine(device: torch.device) -> Machine:
    """What there is, whatever else is using it now."""
    free = shutil.disk_usage(".").free
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return Machine(found.name, device, found.total_memory, free)
    cores = psutil.cpu_count(logical=True)
    return Machine(f"{device.type}, {cores} cores", device, psutil.virtual_memory().total, free)


def warnings(params: Params, machine: Machine, memory: Mapping[str, float], disk: float) -> Iterator[str]:
    """What will not fit or not be fast, a line each with what to do about it.

    memory: bytes that each stage holds at once; disk: bytes that the run fetches and leaves.
    """
    for stage, needed in memory.items():
        if needed > machine.memory and params.compute.device != "sharded":
            yield (
                f"{stage} needs about {needed / 1e9:,.1f} GB of memory at once and {machine.kind} has "
                f"{machine.memory / 1e9:,.1f} GB; {_remedy(stage, params)}"
            )
    if disk > machine.free:
        yield f"the run leaves about {disk / 1e9:,.1f} GB on a disk with {machine.free / 1e9:,.1f} GB free"
    dtype = params.compute.dtype
    if machine.device.type == "cpu" and dtype != "float32":
        speeds = [measure_speed(machine.device, one, seconds=0.2) for one in (dtype, "float32")]
        slower = f", and here float32 is {speeds[1] / speeds[0]:.1f} times as fast"
        yield (
            f"{PARAMS_FILE}: compute.dtype: {dtype} on a CPU halves the memory and rounds what is measured"
            f"{slower if speeds[1] > FASTER * speeds[0] else ''}; float32 is the choice where it fits"
        )


def _remedy(stage: str, params: Params) -> str:
    smaller = "compute.dtype: bfloat16 halves it" if params.compute.dtype == "float32" else ""
    batch = "" if params.capture.batch_size == 1 else "capture.batch_size: 1"
    again = (
        "" if params.capture.checkpointing or not params.capture.gradients else "capture.checkpointing: true"
    )
    tips = [one for one in (smaller, *((again, batch) if stage == "capture" else ())) if one]
    return "; ".join(tips) or "use a larger machine, or compute.device: sharded over several accelerators"
