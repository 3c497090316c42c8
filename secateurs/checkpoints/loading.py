"""Loading of the checkpoints that this pipeline writes."""

from __future__ import annotations

import json
import pickle
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import GENERATION_CONFIG_NAME, logging

from secateurs.checkpoints.folder import check_there
from secateurs.checkpoints.modelling_file import MODELLING_FILE, known_code
from secateurs.checkpoints.weight_checks import check_weights
from secateurs.errors import InputError
from secateurs.families.tokenizing import is_panic

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What the libraries raise for files that are missing, broken or of another kind.
UNREADABLE = (
    OSError, RuntimeError, ValueError, KeyError, TypeError, ImportError, EOFError,
    AttributeError, AssertionError, ArithmeticError, IndexError,
    struct.error, SafetensorError, pickle.UnpicklingError, StrictDataclassError,
)  # fmt: skip
# What torch says where there is no memory for a tensor.
_ASKED = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes")


def load_model(directory: Path, dtype: str) -> PreTrainedModel:
    """Load a checkpoint of this pipeline into host memory: evaluation mode, weights frozen.

    Raises InputError when it cannot be read, brings code that is not this project's, lacks weights, has more
    of them than its config tells of, or has some that are not finite.
    """
    # Not at the top, because configs and tokenizers are read without models, whose imports take seconds.
    from secateurs.families.twins import auto_class

    check_there(directory)
    own = has_own_code(directory)
    model = read_weights(auto_class(load_config(directory)), directory, dtype, trust_remote_code=own)
    tell_tie(model)
    return model


def read_weights(model_class: Any, directory: Path, dtype: str, **options: Any) -> PreTrainedModel:
    """What `from_pretrained` of a class makes of a checkpoint, as load_model has it; InputError likewise."""
    logging.disable_progress_bar()
    check_generation(directory)
    try:
        # transformers' type annotations leave out the pair that it returns with output_loading_info.
        loaded: Any = model_class.from_pretrained(
            directory,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            output_loading_info=True,
            # Reported like the others, by name and shapes.
            ignore_mismatched_sizes=True,
            **options,
        )
    except UNREADABLE as error:
        raise InputError(unreadable(str(directory), error)) from None
    model, report = loaded
    check_weights(model, report, str(directory))
    frozen: PreTrainedModel = model.eval().requires_grad_(False)
    return frozen


def check_generation(directory: Path) -> None:
    """Raise InputError where transformers refuses the settings by which a checkpoint writes, which it reads
    with its weights and does not name."""
    if not (directory / GENERATION_CONFIG_NAME).is_file():
        return
    try:
        GenerationConfig.from_pretrained(directory, local_files_only=True)
    except UNREADABLE as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{GENERATION_CONFIG_NAME}: transformers does not read it: {said.rstrip('.')}; correct it, or "
            "take the file away"
        ) from None


def load_shapes(directory: Path) -> PreTrainedModel:
    """A checkpoint's model without its weights, on the meta device: modules, names and shapes alone.

    Reads no file of weights. Raises InputError when its config cannot be read, or no model be made of it.
    """
    # Not at the top, because configs and tokenizers are read without models, whose imports take seconds.
    from secateurs.families.twins import shapes_of

    config, own = load_config(directory), has_own_code(directory)
    try:
        model = shapes_of(config, trust_remote_code=own)
    except UNREADABLE as error:
        raise InputError(unreadable(str(directory), error)) from None
    frozen: PreTrainedModel = model.eval().requires_grad_(False)
    return frozen


def load_config(directory: Path) -> PretrainedConfig:
    """Load the config of a checkpoint; InputError when it cannot be read."""
    check_there(directory)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(directory, local_files_only=True)
    except UNREADABLE as error:
        raise InputError(unreadable(str(directory), error)) from None
    return config


def use_plain_attention(config: PretrainedConfig) -> None:
    """Forget, in place, a kernel for attention that needs another package, or code from the hub.

    It changes speed, not results; transformers then takes its own.
    """
    if config._attn_implementation not in {None, "eager", "sdpa"}:
        config._attn_implementation = None


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint; InputError when it cannot be read."""
    check_there(directory)
    try:
        return read_tokenizer(directory, local_files_only=True)
    except UNREADABLE as error:
        raise InputError(unreadable(str(directory), error)) from None


def read_tokenizer(name: str | Path, **options: Any) -> PreTrainedTokenizerBase:
    """What AutoTokenizer reads, without code of its own; one of UNREADABLE where it cannot."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, **options | {"trust_remote_code": False}
        )
    except UNREADABLE:
        raise
    # The library below it, of another language, raises nothing more special.
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise ValueError(f"tokenizer.json: {error}") from None
    return tokenizer


def unreadable(where: str, error: Exception) -> str:
    """A message with the first line of a library's error, which is the one that says what is wrong."""
    if isinstance(error, pickle.UnpicklingError):
        return (
            f"{where}: cannot be loaded: a .bin file of it is damaged, or holds more than weights, which is "
            "not read because it could run code; fetch it again, or convert it to safetensors"
        )
    if isinstance(error, SafetensorError):
        return f"{where}: cannot be loaded: a .safetensors file of it is damaged ({error}); fetch it again"
    asked = _ASKED.search(str(error))
    if asked is not None:
        return (
            f"{where}: cannot be loaded: a tensor that its config asks for has {int(asked[1]):,} bytes, more "
            "than the memory that is free; correct config.json, or use a larger machine"
        )
    lines = (str(error).strip() or type(error).__name__).splitlines()
    if isinstance(error, KeyError):
        return f"{where}: cannot be loaded: {error} is missing in its files, or unknown to transformers"
    if isinstance(error, StrictDataclassError):
        return f"{where}: cannot be loaded: config.json: {lines[-1].strip()}"
    if "Padding_idx must be within" in lines[0]:
        return (
            f"{where}: cannot be loaded: config.json: pad_token_id: beyond the vocabulary, which the "
            "embeddings of this family do not take; write the right one, or null for none"
        )
    if isinstance(error, AttributeError | AssertionError | ArithmeticError | IndexError):
        return f"{where}: cannot be loaded: a value in its config files cannot be right: {lines[0]}"
    if "tiktoken" in lines[0]:
        return (
            f"{where}: cannot be loaded: its tokenizer.model is damaged, or of no known kind; fetch it again"
        )
    return f"{where}: cannot be loaded: {lines[0]}"


def tell_tie(model: PreTrainedModel) -> None:
    """Have the config say of embeddings and head what is so: whether they are one matrix.

    A file may hold a head of its own although the config ties it. transformers 5 then loads both, and would
    save them with that config; transformers 4 and the GGUF would tie them.
    """
    head: Any = model.get_output_embeddings()
    embeddings: Any = model.get_input_embeddings()
    if head is not None:
        model.config.tie_word_embeddings = head.weight is embeddings.weight


def saved_dtype(directory: Path) -> torch.dtype:
    """The dtype of a checkpoint's weights, as its config.json has it. Raises InputError where it has none."""
    config = _config(directory)
    dtype = getattr(torch, str(config.get("dtype", config.get("torch_dtype"))), None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"{directory}/config.json: dtype: not there; run the stage that writes it again")
    return dtype


def has_own_code(directory: Path) -> bool:
    """Whether a checkpoint comes with the modelling file that this project writes, and with that alone.

    Raises InputError for one that has the file's name and another content. Other code is not run: what
    transformers knows itself loads without.
    """
    own = _config(directory).get("auto_map")
    if not isinstance(own, dict):
        return False
    if str(own.get("AutoModelForCausalLM", "")).partition(".")[0] != Path(MODELLING_FILE).stem:
        return False
    file = directory / MODELLING_FILE
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    known = known_code(text)
    if known is None or own != known.auto_map:
        raise InputError(
            f"{file}: not the modelling file that this version writes, so it is not run; prune the model anew"
        )
    return True


def _config(directory: Path) -> dict[str, Any]:
    """The config of a checkpoint; empty where it cannot be read, which transformers then says."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
