"""What a model's config.json says, looked at before transformers makes anything of it.

A config of a thousand million layers keeps transformers busy for ever, a dtype may name a function of torch,
and what it logs of a value goes to the terminal as it is.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from secateurs.errors import InputError

CONFIG = "config.json"
DTYPES = ("float64", "float32", "bfloat16", "float16")
# Keys of what is made one by one, and of sizes of tensors.
_COUNTS = re.compile(r".*layers?|.*experts|.*blocks?")
_SIZES = re.compile(
    r".*(_size|_dim|_heads|_embeddings|_positions|_rank|_groups)|n_(embd|head|inner|positions|ctx)|d_(model|ff)"
)
_MOST_COUNTED, _MOST = 10_000, 2**31 - 1
_NEEDED = frozenset(
    {
        *("hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers"),
        *("num_attention_heads", "num_key_value_heads", "max_position_embeddings", "head_dim"),
    }
)
# What positions are turned by: transformers logs a wrong one and computes with it.
_ABOVE_ZERO = ("factor", "rope_theta")
# Files that transformers opens in a folder because another one names them.
_NAMES = {CONFIG: ("configuration_files",), "tokenizer_config.json": ("fast_tokenizer_files",)}


def check_raw(config: Mapping[str, Any]) -> None:
    """Raise InputError for a key or value of a config that no model has, naming it."""
    for key, value in _entries(config):
        name = key.rpartition(".")[2]
        if not key.isprintable() or (isinstance(value, str) and not value.isprintable()):
            raise InputError(f"{CONFIG}: {key!r}: {value!r:.60}: has control characters; fetch it again")
        if name in {"dtype", "torch_dtype"} and not _is_dtype(value):
            raise InputError(f"{CONFIG}: {key}: {value!r:.60}: must be one of {', '.join(DTYPES)}")
        if name == "model_type" and not isinstance(value, str):
            raise InputError(f"{CONFIG}: {key}: {value!r:.60}: must be the name of a family; fetch it again")
        if "rope" in key and name in _ABOVE_ZERO and not _is_above_zero(value):
            raise InputError(f"{CONFIG}: {key}: {value!r:.60}: must be a number above 0; fetch it again")
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        most = _MOST_COUNTED if _COUNTS.fullmatch(name) else _MOST if _SIZES.fullmatch(name) else None
        if most is not None and value > most:
            raise InputError(f"{CONFIG}: {key}: {_digits(value)}: no model has over {most:,}; correct it")
        if name in _NEEDED and value < 1:
            raise InputError(f"{CONFIG}: {key}: {value}: must be 1 or more; correct it")
    check_ends(CONFIG, config, vocabulary(config))


def vocabulary(config: Mapping[str, Any]) -> int | None:
    """How many tokens a config tells of; None where it leaves that to transformers."""
    text = config.get("text_config")
    rows = config.get("vocab_size", text.get("vocab_size") if isinstance(text, Mapping) else None)
    return rows if isinstance(rows, int) else None


def check_ends(file: str, content: Mapping[str, Any], rows: int | None) -> None:
    """Raise InputError for a token that ends a text and is none of the vocabulary's `rows`.

    transformers takes it as it is: a text would never end. Ids that begin or pad a text are left to it: good
    models have some that nothing uses.
    """
    ends = content.get("eos_token_id")
    for end in ends if isinstance(ends, list) else [ends]:
        if rows is None or end is None or _is_token(end, rows):
            continue
        shown = _digits(end) if isinstance(end, int) else repr(end)[:60]
        raise InputError(
            f"{file}: eos_token_id: {shown}: no text would end there: the model has the tokens 0 to "
            f"{rows - 1}; write the right one, or null for none"
        )


def check_named_files(file: str, content: Mapping[str, Any]) -> None:
    """Raise InputError where a file of a model's folder names others that are not in that folder."""
    for key in _NAMES.get(file, ()):
        names = content.get(key)
        for name in names if isinstance(names, list) else ():
            check_inside(f"{file}: {key}", str(name))


def check_inside(where: str, name: str) -> None:
    """Raise InputError for a name of a file, said in `where`, that leads out of the folder."""
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{where}: {name!r:.100}: leads out of the model's folder; put the file there")


def _is_token(value: Any, rows: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < rows


def _is_above_zero(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and value > 0)


def _is_dtype(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.removeprefix("torch.") in DTYPES)


def _entries(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value in nested mappings and lists with its key, as `a.b.0`."""
    listed = enumerate(value) if isinstance(value, list) else ()
    for key, one in value.items() if isinstance(value, Mapping) else listed:
        yield f"{prefix}{key}", one
        yield from _entries(one, f"{prefix}{key}.")


def _digits(value: int) -> str:
    # Python writes no integer of more than 4,300 digits.
    return str(value) if value < 10**30 else "a number of more than 30 digits"
