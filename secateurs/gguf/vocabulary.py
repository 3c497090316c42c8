"""A byte-level BPE tokenizer as GGUF metadata."""

import json
from typing import Any

import gguf
from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# How text is cut before merging -> what llama.cpp calls that. It knows a fixed set, by name.
PRE_TOKENIZERS = {
    ("ByteLevel",): "gpt-2",
    ("Digits", "ByteLevel"): "smollm",
    (_WORDS + r"\p{N}" + _REST,): "qwen2",
    (_WORDS + r"\p{N}{1,3}" + _REST,): "llama-bpe",
}


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
    spec = backend["pre_tokenizer"] or {"type": "none"}
    steps = spec["pretokenizers"] if spec["type"] == "Sequence" else [spec]
    shape = tuple(_step(step) for step in steps)
    # The byte-level step after a Split only spells bytes out.
    shape = tuple(step for step in shape if step != "ByteLevel without its own pattern")
    if shape not in PRE_TOKENIZERS or backend["normalizer"] not in (None, {"type": "NFC"}):
        raise InputError(
            f"tokenizer.json: pre_tokenizer, normalizer: {' + '.join(shape) or 'none'}: no llama.cpp "
            "tokenizer that cuts text like this is known here (secateurs/gguf/vocabulary.py)"
        )
    return PRE_TOKENIZERS[shape]


def _step(step: dict[str, Any]) -> str:
    kind: str = step["type"]
    if kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        pattern: str = step["pattern"].get("Regex", kind)
        return pattern
    if kind == "ByteLevel" and step["add_prefix_space"]:
        return "ByteLevel with a space in front"
    if kind == "ByteLevel" and not step["use_regex"]:
        return "ByteLevel without its own pattern"
    if kind == "Digits" and not step["individual_digits"]:
        return "Digits in runs"
    return kind
