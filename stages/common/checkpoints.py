"""The checkpoints of the pipeline, held against dvc.lock before they are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from secateurs.checkpoints import loading
from secateurs.checkpoints.raw_config import CONFIG
from secateurs.errors import InputError
from stages.common.hashes import check_hash, check_hashes
from stages.common.paths import MODEL, PRUNED, RECOVERED
from stages.common.stopwatch import spent

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from secateurs.checkpoints.streaming import StreamedModel

# Bytes of the largest file of a tokenizer. Weights are much larger than what it is read from.
MOST_OF_A_TOKENIZER = 2**26
_MADE_BY = {
    MODEL: "run `dvc repro model`",
    PRUNED: "run `dvc repro surgery`",
    RECOVERED: "run `make recover`",
}


@spent("load")
def load_model(directory: Path, dtype: str) -> PreTrainedModel:
    """As checkpoints.loading.load_model; InputError too where a file is not the one in dvc.lock."""
    _check_made(directory)
    check_hashes(directory)
    return loading.load_model(directory, dtype)


@spent("load")
def stream_model(directory: Path, dtype: str, device: torch.device) -> StreamedModel:
    """As checkpoints.streaming.stream_model; InputError too where a file is not the one in dvc.lock."""
    _check_made(directory)
    check_hashes(directory)
    # What it needs takes seconds to import.
    from secateurs.checkpoints import streaming

    return streaming.stream_model(directory, dtype, device)


@spent("load")
def load_shapes(directory: Path) -> PreTrainedModel:
    """As checkpoints.loading.load_shapes; InputError too where the config is not the one in dvc.lock."""
    _check_made(directory)
    check_hash(directory / CONFIG)
    return loading.load_shapes(directory)


def load_config(directory: Path) -> PretrainedConfig:
    """As checkpoints.loading.load_config; InputError too where the file is not the one in dvc.lock."""
    _check_made(directory)
    check_hash(directory / CONFIG)
    return loading.load_config(directory)


@spent("load")
def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """As checkpoints.loading.load_tokenizer; InputError too where a file is not the one in dvc.lock."""
    _check_made(directory)
    check_hashes(directory, MOST_OF_A_TOKENIZER)
    return loading.load_tokenizer(directory)


def saved_dtype(directory: Path) -> torch.dtype:
    """As checkpoints.loading.saved_dtype; InputError too where the file is not the one in dvc.lock."""
    _check_made(directory)
    check_hash(directory / CONFIG)
    return loading.saved_dtype(directory)


def _check_made(directory: Path) -> None:
    if directory in _MADE_BY and not (directory / CONFIG).is_file():
        raise InputError(f"{directory}: no checkpoint there; {_MADE_BY[directory]}")
