"""What a program that prunes is given and must leave. Imports only what a baseline's own environment has."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

CHECKPOINT = "checkpoint"
LOGITS = "logits.safetensors"
REPORT = "report.json"


@dataclass(frozen=True)
class Request:
    """What to prune, and how far.

    baseline: the name in the catalogue; model: the dense checkpoint; share: of the decoder layers' parameters
    to remove; text: safetensors, calibration ids int64 [count, tokens] by domain; without: the domain that
    this text leaves out, empty for none; check: safetensors, the ids whose logits are handed over; out: the
    directory to leave everything in; root: the project's; device, dtype: where and in what to compute.
    """

    baseline: str
    model: str
    share: float
    text: str
    without: str
    check: str
    out: str
    root: str
    device: str
    dtype: str

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def sequences(self) -> dict[str, Tensor]:
        """The calibration text by domain."""
        return load_file(self.text)


def read_request() -> Request:
    """The request that the command line names."""
    (path,) = sys.argv[1:]
    return Request(**json.loads(Path(path).read_text(encoding="utf-8")))


def load_dense(request: Request) -> PreTrainedModel:
    """The dense model as a user of transformers loads it."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        request.model, dtype=getattr(torch, request.dtype), local_files_only=True
    )
    model: PreTrainedModel = loaded.to(request.device).eval()
    return model


def decoder_size(model: PreTrainedModel) -> int:
    """Parameters of the decoder layers."""
    layers: Any = model.base_model.layers
    return sum(parameter.numel() for parameter in layers.parameters())


@torch.no_grad()
def hand_over(
    request: Request,
    model: PreTrainedModel,
    version: str,
    setting: str,
    save: Callable[[PreTrainedModel, Path], object],
) -> None:
    """Save the pruned model and the logits that it gives in memory; say what made it.

    version: of the program; setting: what its own knobs were set to.
    """
    out = Path(request.out)
    ids = load_file(request.check)["input_ids"].to(model.device)
    logits = model.eval()(ids, use_cache=False).logits.float().cpu()
    save_file({"logits": logits.contiguous()}, out / LOGITS)
    save(model, out / CHECKPOINT)
    (out / REPORT).write_text(json.dumps({"version": version, "setting": setting}), encoding="utf-8")


def save_stock(model: PreTrainedModel, directory: Path) -> None:
    """Save as transformers does."""
    model.save_pretrained(directory)
