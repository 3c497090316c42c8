"""How much memory a device has."""

from dataclasses import dataclass

import psutil
import torch


@dataclass(frozen=True)
class Capacity:
    """kind: what the device is, in words. memory: its bytes in all, whatever else is using them now."""

    kind: str
    memory: int


def capacity_of(device: torch.device) -> Capacity:
    """What a device has; that of host memory where it is no CUDA device."""
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return Capacity(found.name, found.total_memory)
    cores = psutil.cpu_count(logical=True)
    return Capacity(f"{device.type}, {cores} cores", psutil.virtual_memory().total)
