"""A tokenizer as GGUF metadata: byte-level BPE, or BPE over characters as SentencePiece has it."""

import json
from typing import Any

import gguf
from transformers import PreTrainedTokenizerBase

from secateurs.checkpoints.gguf_pre_tokenizers import name_of, steps_of
from secateurs.checkpoints.gguf_tokenizer import SPACE
from secateurs.errors import InputError

# What a tokenizer over characters does to spaces before it merges: nothing but to write them as SPACE.
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREPEND = {"type": "Prepend", "prepend": SPACE}
_KEEP = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def write_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, size: int) -> list[str]:
    """Write tokens (filled up to `size`), merges or scores, special tokens and chat templates.

    Returns what llama.cpp has no place for and can do without. Raises InputError for a tokenizer that it
    would run otherwise.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    model = backend["model"]
    if model["type"] != "BPE":
        raise InputError(f"tokenizer.json: model: {model['type']}: only BPE is written to GGUF")
    tokens = {index: token for token, index in model["vocab"].items()}
    types = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for added in backend["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    left_out: list[str] = []
    if model.get("byte_fallback"):
        _add_characters(writer, backend, tokens, types, size)
    else:
        left_out = _add_bytes(writer, backend)
    writer.add_token_list([tokens.get(index, f"[PAD{index}]") for index in range(size)])
    writer.add_token_types([types.get(index, gguf.TokenType.UNUSED) for index in range(size)])
    for add, index in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
    ):
        # A class may have added tokens of its own, which the model has no rows for.
        if index is not None and index < size:
            add(index)
    ids = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(ids[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(ids[-1] == tokenizer.eos_token_id)
    templates = tokenizer.chat_template
    if isinstance(templates, dict):
        templates = [{"name": name, "template": template} for name, template in templates.items()]
    if templates:
        writer.add_chat_template(templates)
    return left_out


def _add_bytes(writer: gguf.GGUFWriter, backend: dict[str, Any]) -> list[str]:
    model, steps = backend["model"], steps_of(backend["pre_tokenizer"])
    name = name_of(steps, bool(model.get("ignore_merges")))
    if name is None or backend["normalizer"] not in (None, {"type": "NFC"}):
        raise InputError(
            f"tokenizer.json: pre_tokenizer, normalizer, ignore_merges: {' + '.join(steps) or 'none'}: no "
            "llama.cpp tokenizer that cuts text like this is known here "
            "(secateurs/checkpoints/gguf_pre_tokenizers.py)"
        )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in model["merges"]])
    return ["NFC normalisation, which llama.cpp has not"] if backend["normalizer"] else []


def _add_characters(
    writer: gguf.GGUFWriter,
    backend: dict[str, Any],
    tokens: dict[int, str],
    types: dict[int, gguf.TokenType],
    size: int,
) -> None:
    """Write a score for each token: minus the number of the first merge that makes it.

    llama.cpp merges the pair whose token has the highest score, tokenizer.json the pair that stands first;
    both are the same where the merges that make one token follow one another.
    """
    model = backend["model"]
    first: dict[str, int] = {}
    last = ""
    for number, merge in enumerate(model["merges"]):
        made = "".join(merge.split(" ") if isinstance(merge, str) else merge)
        if made in first and made != last:
            raise InputError(
                f"tokenizer.json: merges: {merge}: another token is made between the merges that make "
                f"{made!r}, and a GGUF file has one score for each token"
            )
        first.setdefault(made, number)
        last = made
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_scores([-float(first.get(tokens.get(index, ""), 0)) for index in range(size)])
    for index, token in tokens.items():
        if types[index] == gguf.TokenType.USER_DEFINED:
            # They are looked for before spaces are replaced.
            tokens[index] = token.replace(SPACE, " ")
        elif token == model.get("unk_token"):
            types[index] = gguf.TokenType.UNKNOWN
        elif len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[index] = gguf.TokenType.BYTE
    writer.add_add_space_prefix(_space_in_front(backend))


def _space_in_front(backend: dict[str, Any]) -> bool:
    normalizer, cut = backend["normalizer"] or {"type": "none"}, backend["pre_tokenizer"]
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    if steps in ([_REPLACE], [_PREPEND, _REPLACE]) and cut in (None, _KEEP):
        return len(steps) == 2
    if steps == [{"type": "none"}] and cut and cut["type"] == "Metaspace" and not cut.get("split"):
        return bool(cut["prepend_scheme"] != "never")
    raise InputError(
        "tokenizer.json: normalizer, pre_tokenizer: do more than write spaces as \u2581, which is all that "
        "llama.cpp does in this kind of tokenizer"
    )
