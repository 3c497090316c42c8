"""Proof that a checkpoint loads: read back in a fresh process from its directory alone, and compared."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from stages.errors import InputError

# Knows nothing of this project: what it needs is what a user of the checkpoint has.
SCRIPT = """
import sys
import torch, transformers
from safetensors.torch import load_file, save_file

directory, dtype, batch, logits = sys.argv[1:]
model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=getattr(torch, dtype), local_files_only=True, trust_remote_code=True
)
with torch.no_grad():
    values = model.eval()(load_file(batch)["input_ids"], use_cache=False).logits.float()
save_file({"logits": values.contiguous()}, logits)
print(transformers.__version__, type(model).__name__)
"""
# Largest difference of logits beside their spread. The fresh process runs on the CPU, whatever the first did.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Proof:
    """The version of transformers and the class that loaded; tokens that were compared; the difference."""

    version: str
    loaded: str
    tokens: int
    difference: float


@torch.no_grad()
def prove_load(model: PreTrainedModel, directory: Path, input_ids: Tensor, shown: Path) -> Proof:
    """Load `directory` in a fresh process and compare its logits with those of `model`.

    input_ids: int64 [sequences, tokens]; shown: what errors call the directory. The difference is root mean
    square, relative to the spread of the logits. Raises InputError when the checkpoint does not load, or
    computes something else.
    """
    expected = model(input_ids.to(model.device), use_cache=False).logits.float().cpu()
    with TemporaryDirectory(prefix="secateurs-") as scratch:
        batch, logits = Path(scratch, "batch.safetensors"), Path(scratch, "logits.safetensors")
        save_file({"input_ids": input_ids.contiguous()}, batch)
        dtype = str(model.dtype).removeprefix("torch.")
        command = [
            sys.executable,
            "-P",
            "-c",
            SCRIPT,
            str(directory.resolve()),
            dtype,
            str(batch),
            str(logits),
        ]
        # The modelling file of a checkpoint is copied to a cache of modules: to one that is thrown away.
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": scratch}
        done = subprocess.run(
            command, cwd=scratch, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            raise InputError(f"{shown}: the checkpoint does not load in a fresh process: {said}")
        found = load_file(logits)["logits"]
    version, loaded = done.stdout.split()[-2:]
    if found.shape != expected.shape:
        raise InputError(
            f"{shown}: the loaded checkpoint gives logits of shape {list(found.shape)}, "
            f"not {list(expected.shape)}"
        )
    difference = float((found - expected).square().mean().sqrt() / expected.std())
    if not difference <= TOLERANCE[model.dtype]:
        raise InputError(
            f"{shown}: the loaded checkpoint computes something else than the model in memory: "
            f"logits differ by {difference:.2g} of their spread"
        )
    return Proof(version, loaded, input_ids.numel(), difference)
