"""Whether a checkpoint loads where nothing of this project is, and in which class."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from safetensors.torch import load_file

from stages.errors import InputError
from stages.proof import SCRIPT, TOLERANCE

STOCK = "stock"
OWN = "own class"


def try_loading(directory: Path, check: Path, expected: Path, dtype: str) -> str:
    """Load a checkpoint in a fresh process and hold its logits against those that the program gave in memory.

    check, expected: safetensors with `input_ids` and `logits`. Returns STOCK where a class of transformers
    itself loads it, OWN where it needs the code that lies beside it. Raises InputError where it does not load
    or computes something else.
    """
    with TemporaryDirectory(prefix="secateurs-") as scratch:
        logits = Path(scratch, "logits.safetensors")
        command = [sys.executable, "-P", "-c", SCRIPT, str(directory.resolve()), dtype]
        command += [str(check.resolve()), str(logits)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": scratch, "PYTHONPATH": ""}
        done = subprocess.run(
            command, cwd=scratch, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            raise InputError(f"does not load in a fresh process: {said}")
        found = load_file(logits)["logits"]
    wanted = load_file(expected)["logits"]
    if found.shape != wanted.shape:
        raise InputError(f"loads as another model: logits {list(found.shape)}, not {list(wanted.shape)}")
    difference = float((found - wanted).square().mean().sqrt() / wanted.std())
    if not difference <= TOLERANCE[getattr(torch, dtype)]:
        raise InputError(f"loads as another model: logits differ by {difference:.2g} of their spread")
    return STOCK if hasattr(transformers, done.stdout.split()[-1]) else OWN
