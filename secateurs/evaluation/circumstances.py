"""What a measurement was made with, as its record has it."""

from importlib.metadata import version
from typing import Any

import torch

from secateurs.devices.placement import resolve_device

LIBRARIES = ("torch", "transformers", "lm-eval")


def circumstances(dtype: str, device: str) -> dict[str, Any]:
    """Data type, kind of device, threads, versions of the libraries; device: what `compute.device` says."""
    return {
        "dtype": dtype,
        "device": resolve_device(device).type,
        "threads": torch.get_num_threads(),
        "libraries": {library: version(library) for library in LIBRARIES},
    }
