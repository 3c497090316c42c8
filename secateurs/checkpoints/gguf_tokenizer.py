"""The tokenizer of a GGUF file, which cuts text as llama.cpp does by what the file says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer, decoders, normalizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from secateurs.checkpoints.gguf_pre_tokenizers import COMPOSED, RULES, WHOLE_WORDS, pre_tokenizer
from secateurs.errors import InputError

# What stands for a space where tokens are made of characters.
SPACE = "\u2581"
_NAMED = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
# What llama.cpp takes for these where tokens are made of characters and a file does not say.
_DEFAULTS = {"unk": 0, "bos": 1, "eos": 2}


def take_rule(file: Path, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer that transformers made of a GGUF file, with the file's own rule.

    transformers cuts text as GPT-2 does for names that it does not know, smollm among them. Over characters
    it puts a space in front of text that has none there, whatever the file says. A class of its own would
    bring its rule again when it is saved and loaded, so the result is of the plain one.
    """
    fields = gguf.GGUFReader(str(file)).fields
    told = {
        key: fields[f"tokenizer.ggml.{key}"].contents()
        for key in ("model", "pre", "add_bos_token", "add_space_prefix", *map(_id_of, _NAMED.values()))
        if f"tokenizer.ggml.{key}" in fields
    }
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    characters = told["model"] == "llama"
    if characters:
        _by_characters(backend, bool(told.get("add_space_prefix", True)))
    else:
        _by_bytes(backend, told)
    ids = {
        name: told.get(_id_of(kind), _DEFAULTS.get(name) if characters else None)
        for name, kind in _NAMED.items()
    }
    special = {
        f"{name}_token": backend.id_to_token(index) for name, index in ids.items() if index is not None
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=tokenizer.chat_template,
        clean_up_tokenization_spaces=False,
        **special,
    )


def _id_of(kind: str) -> str:
    return f"{kind}_token_id"


def _by_characters(backend: Tokenizer, prefix: bool) -> None:
    """A space in front of all that lies between special tokens, or none, and no other cut."""
    replace = normalizers.Replace(" ", SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace] if prefix else [replace])
    backend.pre_tokenizer = None
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)


def _by_bytes(backend: Tokenizer, told: Mapping[str, Any]) -> None:
    name = str(told["pre"])
    backend.pre_tokenizer = pre_tokenizer(RULES[name])
    backend.model.ignore_merges = name in WHOLE_WORDS
    if name in COMPOSED:
        backend.normalizer = normalizers.NFC()
    # transformers begins a text by what the file says, and not by what llama.cpp takes where it says nothing.
    if name in WHOLE_WORDS and "add_bos_token" not in told:
        if _id_of("bos") not in told:
            raise InputError(
                "tokenizer.ggml.bos_token_id: not there, and llama.cpp begins a text by it; convert the "
                "model anew"
            )
        index = int(told[_id_of("bos")])
        token = backend.id_to_token(index)
        backend.post_processor = processors.TemplateProcessing(
            single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, index)]
        )
