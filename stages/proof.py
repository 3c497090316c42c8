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


@dataclass(frozen=True)
class Loaded:
    """What a fresh process says: the version of transformers, the class that loaded, float32 logits."""

    version: str
    name: str
    logits: Tensor


@torch.no_grad()
def prove_load(model: PreTrainedModel, directory: Path, input_ids: Tensor, shown: Path) -> Proof:
    """Load `directory` in a fresh process and compare its logits with those of `model`.

    input_ids: int64 [sequences, tokens]; shown: what errors call the directory. Raises InputError when the
    checkpoint does not load, or computes something else.
    """
    expected = model(input_ids.to(model.device), use_cache=False).logits.float().cpu()
    found = load_afresh(directory, input_ids, model.dtype, shown)
    apart = difference(found.logits, expected, model.dtype, shown)
    return Proof(found.version, found.name, input_ids.numel(), apart)


def load_afresh(directory: Path, input_ids: Tensor, dtype: torch.dtype, shown: object) -> Loaded:
    """Let a process that knows nothing of this project load `directory` and run it on `input_ids`.

    input_ids: int64 [sequences, tokens]; shown: what errors call the directory. Raises InputError when
    that process fails.
    """
    with TemporaryDirectory(prefix="secateurs-") as scratch:
        batch, logits = Path(scratch, "batch.safetensors"), Path(scratch, "logits.safetensors")
        save_file({"input_ids": input_ids.contiguous()}, batch)
        arguments = [str(directory.resolve()), str(dtype).removeprefix("torch."), str(batch), str(logits)]
        # The modelling file of a checkpoint is copied to a cache of modules: to one that is thrown away.
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": scratch, "PYTHONPATH": ""}
        done = subprocess.run(
            [sys.executable, "-P", "-c", SCRIPT, *arguments],
            cwd=scratch,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            raise InputError(f"{shown}: the checkpoint does not load in a fresh process: {said}")
        version, name = done.stdout.split()[-2:]
        return Loaded(version, name, load_file(logits)["logits"])


def difference(found: Tensor, expected: Tensor, dtype: torch.dtype, shown: object) -> float:
    """Root mean square difference of logits, relative to the spread of the expected ones.

    Raises InputError, which calls the checkpoint `shown`, where it is more than rounding in `dtype` explains.
    """
    if found.shape != expected.shape:
        raise InputError(
            f"{shown}: the loaded checkpoint gives logits of shape {list(found.shape)}, "
            f"not {list(expected.shape)}"
        )
    apart = float((found - expected).square().mean().sqrt() / expected.std())
    if not apart <= TOLERANCE[dtype]:
        raise InputError(
            f"{shown}: the loaded checkpoint computes something else than the model in memory: "
            f"logits differ by {apart:.2g} of their spread"
        )
    return apart
