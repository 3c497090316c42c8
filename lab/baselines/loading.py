"""Whether a checkpoint loads in a process without this project, and in which class."""

from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

from secateurs.checkpoints.proof import difference, load_afresh

STOCK = "stock"
OWN = "own class"


def try_loading(directory: Path, check: Path, expected: Path, dtype: str) -> str:
    """Load a checkpoint in a fresh process and hold its logits against those that the program gave in memory.

    check, expected: safetensors with `input_ids` and `logits`. Returns STOCK where a class of transformers
    itself loads it, OWN where it needs the code saved with it. Raises InputError where it does not load
    or computes something else.
    """
    precision = getattr(torch, dtype)
    found = load_afresh(directory, load_file(check)["input_ids"], precision, "its output")
    difference(found.logits, load_file(expected)["logits"], precision, "its output")
    return STOCK if hasattr(transformers, found.name) else OWN
