"""Whether this machine can do what params.yaml asks for."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from secateurs.devices.capacity import Capacity, capacity_of
from secateurs.estimate.memory_needs import Need, fewer_bytes
from secateurs.estimate.work import measure_speed
from secateurs.evaluation.units import size
from secateurs.recover.memory import lacks
from stages.params.file import PARAMS_FILE, Params
from stages.params.method_settings import method_settings

# float32 may be this much slower before it is no longer the better choice on a CPU.
FASTER = 1.2


@dataclass(frozen=True)
class Machine:
    """memory: bytes of the device, in all; free: bytes of the disk with the working directory."""

    kind: str
    device: torch.device
    memory: int
    free: int

    @property
    def capacity(self) -> Capacity:
        """That of the device."""
        return Capacity(self.kind, self.memory)


def this_machine(device: torch.device) -> Machine:
    """What there is, whatever else is using it now."""
    free = shutil.disk_usage(".").free
    found = capacity_of(device)
    return Machine(found.kind, device, found.memory, free)


def warnings(params: Params, machine: Machine, memory: Mapping[str, Need], disk: float) -> Iterator[str]:
    """What will not fit or not be fast, a line each with what to do about it.

    memory: what each stage needs of the device; disk: bytes that the run fetches and leaves.
    """
    for stage, need in memory.items():
        if need.least > machine.memory and params.compute.device != "sharded":
            yield f"{stage} {lacks(need.least, machine.capacity)}; {_remedy(stage, params, machine)}"
    if disk > machine.free:
        yield f"the run leaves about {size(disk)} on a disk with {size(machine.free)} free"
    dtype = params.compute.dtype
    if machine.device.type == "cpu" and dtype != "float32":
        speeds = [measure_speed(machine.device, one, seconds=0.2) for one in (dtype, "float32")]
        slower = f", and here float32 is {speeds[1] / speeds[0]:.1f} times as fast"
        yield (
            f"{PARAMS_FILE}: compute.dtype: {dtype} on a CPU halves the memory and rounds what is measured"
            f"{slower if speeds[1] > FASTER * speeds[0] else ''}; float32 is the choice where it fits"
        )


def _remedy(stage: str, params: Params, machine: Machine) -> str:
    smaller = ["compute.dtype: bfloat16 halves it"] if params.compute.dtype == "float32" else []
    forward = stage == "capture" and not params.capture.gradients and params.capture.layers == "resident"
    tips = [*smaller, *fewer_bytes(stage, method_settings(params), machine.device.type)]
    tips += ["capture.layers: streamed"] if forward else []
    return "; ".join(tips) or "use a larger machine, or compute.device: sharded over several accelerators"
