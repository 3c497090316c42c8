"""Loading of the checkpoints that this pipeline writes."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from stages.checkpoints.folder import check_there
from stages.common.errors import InputError

# What the libraries raise for files that are missing, broken or of another kind.
UNREADABLE = (
    OSError, RuntimeError, ValueError, KeyError, TypeError, ImportError, EOFError,
    struct.error, SafetensorError, pickle.UnpicklingError,
)  # fmt: skip


def load_model(directory: Path, dtype: str) -> PreTrainedModel:
    """Load a checkpoint of this pipeline into host memory: evaluation mode, weights frozen.

    Raises InputError when it cannot be read, lacks weights, or has weights that are not finite.
    """
    check_there(directory)
    logging.disable_progress_bar()
    try:
        # transformers' type annotations leave out the pair that it returns with output_loading_info.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            trust_remote_code=_has_own_code(directory),
            output_loading_info=True,
        )
    except UNREADABLE as error:
        raise InputError(unreadable(str(directory), error)) from None
    model, report = loaded
    check_weights(model, report["missing_keys"], str(directory))
    frozen: PreTrainedModel = model.eval().requires_grad_(False)
    return frozen


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint; InputError when it cannot be read."""
    check_there(directory)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except UNREADABLE as error:
        raise InputError(unreadable(str(directory), error)) from None
    return tokenizer


def check_weights(model: PreTrainedModel, missing: set[str], where: str) -> None:
    """Raise InputError if weights are missing (transformers makes random ones instead) or not finite."""
    if missing:
        raise InputError(f"{where}: weights are missing: {_few(sorted(missing))}")
    broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise InputError(f"{where}: weights are not finite: {_few(broken)}")


def unreadable(where: str, error: Exception) -> str:
    """A message with the first line of a library's error, which is the one that says what is wrong."""
    if isinstance(error, pickle.UnpicklingError):
        return (
            f"{where}: cannot be loaded: a .bin file of it is damaged, or holds more than weights, which is "
            "not read because it could run code; fetch it again, or convert it to safetensors"
        )
    if isinstance(error, SafetensorError):
        return f"{where}: cannot be loaded: a .safetensors file of it is damaged ({error}); fetch it again"
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{where}: cannot be loaded: {reason}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _has_own_code(directory: Path) -> bool:
    # A pruned model with a width per layer comes with the modelling file that our surgery wrote. A dense
    # model never does: the model stage loads it without trust and drops `auto_map`.
    try:
        return "auto_map" in json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
