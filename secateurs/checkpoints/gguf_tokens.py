"""What a GGUF file says of its tokenizer: each key is used, is known to change nothing, or is refused."""

from collections.abc import Mapping
from typing import Any

from secateurs.checkpoints.gguf_pre_tokenizers import RULES
from secateurs.errors import InputError

# What is read, and names of tokens that do nothing to a text's ids.
TOKENIZER = frozenset(
    {f"ggml.{name}" for name in ("model", "pre", "tokens", "scores", "token_type", "merges")}
    | {f"ggml.{name}_token_id" for name in ("bos", "eos", "unknown", "padding", "eot", "eom", "mask", "cls")}
    | {f"ggml.{name}_token_id" for name in ("seperator", "separator", "prefix", "suffix", "middle")}
    | {f"ggml.fim_{name}_token_id" for name in ("pre", "suf", "mid", "pad", "rep", "sep")}
    | {"ggml.add_bos_token", "ggml.add_eos_token", "ggml.add_space_prefix", "chat_template"}
    | {"huggingface.json"}
)
TOKENIZER_ABSENT = {"ggml.add_sep_token": False, "ggml.remove_extra_whitespaces": False}
# By the tokenizer's model: what llama.cpp takes for the token that ends a text, and what it merges by.
DEFAULT_END = {"gpt2": None, "llama": 2}
MERGED_BY = {"gpt2": "merges", "llama": "scores"}
# Tokens that a text is given. Good files pad by one that is not there.
USED = ("bos", "eos", "unknown")
# More tokens at which an answer ends.
ENDS = ("eot", "eom")
MISSING = "not there, and llama.cpp reads no such file; convert the model anew"


def check_tokenizer(told: Mapping[str, Any]) -> None:
    """Raise InputError for a key of `tokenizer` that is not read, and for what lacks."""
    for key, value in told.items():
        template = key.startswith("chat_template")
        if not (key in TOKENIZER or template or TOKENIZER_ABSENT.get(key) == value):
            raise InputError(f"tokenizer.{key}: {value}: nothing here reads it, and it may change the tokens")
    model = told.get("ggml.model")
    if model not in ("gpt2", "llama"):
        raise InputError(f"tokenizer.ggml.model: {model}: only gpt2 and llama are read")
    rule = told.get("ggml.pre", "not there")
    if model == "gpt2" and rule not in RULES:
        raise InputError(
            f"tokenizer.ggml.pre: {rule}: does not say how to cut text before merging; known are "
            f"{', '.join(RULES)} (secateurs/checkpoints/gguf_pre_tokenizers.py)"
        )
    for name in ("tokens", MERGED_BY[model]):
        if f"ggml.{name}" not in told:
            raise InputError(f"tokenizer.ggml.{name}: {MISSING}")


def ends(told: Mapping[str, Any], tokens: int) -> int | list[int] | None:
    """At which tokens an answer ends, as a config tells it; InputError for a token beyond `tokens`."""
    for name in (*USED, *ENDS):
        value = told.get(f"ggml.{name}_token_id", 0)
        if not 0 <= value < tokens:
            raise InputError(
                f"tokenizer.ggml.{name}_token_id: {value}: the file has the tokens 0 to {tokens - 1}; "
                "convert the model anew"
            )
    first = told.get("ggml.eos_token_id", DEFAULT_END[told["ggml.model"]])
    more = [told[key] for name in ENDS if (key := f"ggml.{name}_token_id") in told]
    found = list(dict.fromkeys(end for end in (first, *more) if end is not None))
    return found if len(found) > 1 else found[0] if found else None
