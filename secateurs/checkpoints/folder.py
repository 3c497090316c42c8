"""What a folder of a model is, told from its files before transformers opens it.

Only what transformers would misread, or would refuse in words that do not name the cause.
"""

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateurs.checkpoints.raw_config import CONFIG, check_ends, check_named_files, check_raw, vocabulary
from secateurs.checkpoints.weight_files import check_parts, is_read
from secateurs.errors import InputError
from secateurs.files.decoding import POINTER_REMEDY, decode, is_pointer, parse_json
from secateurs.files.json_file import not_finite
from secateurs.files.local_files import check_kind

ADAPTER = "adapter_config.json"
_GENERATION = "generation_config.json"
# What else transformers reads and expects an object in.
_OBJECTS = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", _GENERATION),
)
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json")
_TOKENIZER_CONFIG, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
_SIDES = ("right", "left")
# Of the tokenizer's config: what a value may be.
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "model_max_length": ((int, float), "a number"),
    "tokenizer_class": ((str,), "the name of a class"),
    "chat_template": ((str, list, dict), "a template"),
    "added_tokens_decoder": ((dict,), "a mapping of tokens"),
}
# Any one of them makes a tokenizer.
_TOKENIZERS = (
    *("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("vocab.json", "vocab.txt", "tokenizer.tiktoken", "tekken.json"),
)


def check_folder(folder: Path) -> None:
    """Raise InputError where a local folder is no checkpoint of plain weights that transformers can open."""
    entries = sorted(folder.iterdir())
    for path in entries:
        if is_read(folder, path.name) or path.name in (CONFIG, *_OBJECTS):
            check_kind(path.name, path)
    lost = [path.name for path in entries if path.is_symlink() and not path.exists()]
    if lost:
        # As a cache of the hub leaves them, from which files were deleted.
        raise InputError(f"{lost[0]}: a link to nothing; fetch it again, or remove it")
    for file in sorted(path for path in folder.iterdir() if path.is_file() and is_read(folder, path.name)):
        with file.open("rb") as stream:
            if is_pointer(stream.read(64)):
                raise InputError(f"{file.name}: {POINTER_REMEDY}")
    _check_adapter(folder)
    if not (folder / CONFIG).is_file():
        others = ", ".join(path.name for path in sorted(folder.glob("*.gguf"))[:3])
        remedy = f"name a GGUF file: {others}" if others else "give the folder that transformers saved"
        raise InputError(f"there is no {CONFIG} in it; {remedy}")
    read = {name: _read_object(folder / name) for name in (CONFIG, *_OBJECTS) if (folder / name).is_file()}
    for name, content in read.items():
        check_named_files(name, content)
    config = read[CONFIG]
    check_raw(config)
    check_ends(_GENERATION, read.get(_GENERATION, {}), vocabulary(config))
    _check_tokenizer_config(read.get(_TOKENIZER_CONFIG, {}))
    if (folder / _TEMPLATE).is_file():
        decode(_TEMPLATE, (folder / _TEMPLATE).read_bytes())
    if "auto_map" in config and not _is_known(config.get("model_type")):
        raise InputError(
            f"{CONFIG}: model_type: {config.get('model_type')}: not known to transformers, and code that "
            "comes with a model is not run; choose a model whose family transformers has"
        )
    check_config(config)
    check_parts(folder, config)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise InputError("it holds no tokenizer; put tokenizer.json, or tokenizer.model, beside the weights")


def _check_tokenizer_config(content: Mapping[str, Any]) -> None:
    """Raise InputError for a value that transformers takes as it is, and fails at later or elsewhere."""
    for key, (kinds, wanted) in _KINDS.items():
        value = content.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise InputError(f"{_TOKENIZER_CONFIG}: {key}: {value!r:.60}: must be {wanted}; correct it")
    for key in ("padding_side", "truncation_side"):
        side = content.get(key)
        if side not in (None, *_SIDES):
            sides = " or ".join(_SIDES)
            raise InputError(f"{_TOKENIZER_CONFIG}: {key}: {side!r:.60}: must be {sides}; correct it")
    templates = content.get("chat_template")
    if isinstance(templates, dict):
        templates = [{"name": name, "template": template} for name, template in templates.items()]
    for one in templates if isinstance(templates, list) else []:
        parts = [one.get(key) for key in ("name", "template")] if isinstance(one, dict) else [None]
        if not all(isinstance(part, str) for part in parts):
            shown = f"{_TOKENIZER_CONFIG}: chat_template: {one!r:.60}"
            raise InputError(f"{shown}: must have a name and a template; correct it")


def _read_object(file: Path) -> dict[str, Any]:
    """What a file of the folder holds; transformers passes over some that it cannot read, and names few."""
    data = file.read_bytes()
    if data.startswith(codecs.BOM_UTF8):
        raise InputError(
            f"{file.name}: begins with a byte order mark, which transformers cannot read; save it without"
        )
    # What a tokenizer reads of the same entry twice is its library's matter.
    value = parse_json(file.name, decode(file.name, data), once=file.name not in _VOCABULARIES)
    if not isinstance(value, dict):
        raise InputError(f"{file.name}: a {type(value).__name__}, not a JSON object; fetch it again")
    return value


def check_file(file: Path) -> None:
    """Raise InputError where a local file is no model in GGUF."""
    with file.open("rb") as stream:
        start = stream.read(64)
    if is_pointer(start):
        raise InputError(POINTER_REMEDY)
    if not start.startswith(b"GGUF"):
        raise InputError("not a GGUF file; of other formats give the folder that holds config.json")


def check_there(folder: Path) -> None:
    """Raise InputError where a folder that a stage reads holds no checkpoint.

    transformers would take its name for one of the hub and say that it cannot connect.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{folder}: no checkpoint there; give the folder of a checkpoint, which has a config.json"
        )


def _check_adapter(folder: Path) -> None:
    if not (folder / ADAPTER).is_file():
        return
    adapter = parse_json(ADAPTER, decode(ADAPTER, (folder / ADAPTER).read_bytes()))
    base = adapter.get("base_model_name_or_path") if isinstance(adapter, dict) else None
    what = f"a LoRA adapter of {base or 'another model'}"
    if (folder / CONFIG).exists():
        raise InputError(
            f"{ADAPTER}: {what} lies beside the model and would be left out; merge it (peft's "
            "`merge_and_unload`), or take its files away"
        )
    raise InputError(
        f"{ADAPTER}: this is {what}, not a model; merge it into that one (peft's `merge_and_unload`) and "
        "give the folder of the result"
    )


def check_config(config: Mapping[str, Any]) -> None:
    """Raise InputError for weights that cannot be cut because of how they are stored: quantised, uneven."""
    quantised = config.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, Mapping) else "unknown"
        raise InputError(
            f"{CONFIG}: quantization_config: {method}: channels of quantised weights cannot be cut; give "
            "the checkpoint in bfloat16, float16 or float32"
        )
    broken = not_finite(config)
    if broken is not None:
        raise InputError(f"{CONFIG}: {broken}: not a finite number; correct it")
    if config.get("per_layer_config"):
        raise InputError(
            f"{CONFIG}: per_layer_config: its layers differ in size, so it was pruned with `prune.widths: "
            "per_layer` and cannot be pruned again; start from the dense model, or from one pruned with "
            "`widths: uniform`"
        )


def _is_known(family: Any) -> bool:
    # Imported where it is asked for: it takes a second, and few folders bring code.
    from transformers import CONFIG_MAPPING

    return family in CONFIG_MAPPING
