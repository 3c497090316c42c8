"""A byte-level BPE tokenizer as GGUF metadata."""

import json
from typing import Any

import gguf
from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.gguf.pre_tokenizers import name_of, steps_of


def write_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, size: int) -> None:
    """Write tokens (filled up to `size`), merges, special tokens and chat template.

    Raises InputError for a tokenizer that is not byte-level BPE or cuts text in a way unknown here.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    model = backend["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise InputError(f"tokenizer.json: model: {model['type']}: only byte-level BPE is written to GGUF")
    tokens = {index: token for token, index in model["vocab"].items()}
    types = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for added in backend["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(backend))
    writer.add_token_list([tokens.get(index, f"[PAD{index}]") for index in range(size)])
    writer.add_token_types([types.get(index, gguf.TokenType.UNUSED) for index in range(size)])
    merges = model["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    for add, index in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
    ):
        if index is not None:
            add(index)
    first = tokenizer("a")["input_ids"][0]
    writer.add_add_bos_token(first == tokenizer.bos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _pre_tokenizer(backend: dict[str, Any]) -> str:
    shape = steps_of(backend["pre_tokenizer"])
    whole_words = bool(backend["model"].get("ignore_merges"))
    name = name_of(shape, whole_words)
    if name is None or backend["normalizer"] not in (None, {"type": "NFC"}):
        raise InputError(
            f"tokenizer.json: pre_tokenizer, normalizer: {' + '.join(shape) or 'none'}: no llama.cpp "
            "tokenizer that cuts text like this is known here (secateurs/gguf/pre_tokenizers.py)"
        )
    return name
