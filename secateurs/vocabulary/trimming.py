"""A tokenizer with fewer tokens, which cuts text of its own tokens as before."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.vocabulary.pieces import backend_of

TOKENIZER = "tokenizer.json"
# What else a folder may hold of the whole vocabulary; the trimmed one is in TOKENIZER alone.
OTHER_FILES = (
    *("vocab.json", "merges.txt", "vocab.txt", "added_tokens.json", "special_tokens_map.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tokenizer.tiktoken", "tekken.json"),
)


def new_ids(tokenizer: PreTrainedTokenizerBase, kept: Iterable[int], rows: int) -> dict[int, int]:
    """Old id -> new id of the tokens that stay; those of `kept` become 0 to n - 1.

    The order stays, but tokens outside the model of tokenizer.json come behind all others, because the
    library gives them the ids that follow. Added tokens beyond the `rows` of the model (the image token of a
    model of text) stay, beyond them: a class may add them again, and no row stands for them.
    """
    backend = backend_of(tokenizer)
    model = backend["model"]["vocab"]
    inside = set(model.values()) if isinstance(model, dict) else set(range(len(model)))
    beyond = {item["id"] for item in backend["added_tokens"] if item["id"] >= rows}
    ordered = sorted({*kept, *beyond}, key=lambda index: (index >= rows, index not in inside, index))
    return {old: new for new, old in enumerate(ordered)}


def trim_tokenizer(tokenizer: PreTrainedTokenizerBase, ids: Mapping[int, int]) -> PreTrainedTokenizerBase:
    """The tokenizer with only the tokens of `ids` (old id -> new id, of new_ids), read back from its files.

    Text that the whole tokenizer cuts into kept tokens alone is cut into the same ones; other text is cut
    into others that spell the same. Both hold where the kept tokens are closed under merges and hold what
    pieces.read_pieces calls fixed. Chat template, settings and special tokens stay as they are.

    Raises InputError where what transformers reads back has other ids.
    """
    trimmed = trimmed_backend(backend_of(tokenizer), ids)
    with TemporaryDirectory(prefix="secateurs-") as folder:
        directory = Path(folder)
        tokenizer.save_pretrained(directory)
        for name in OTHER_FILES:
            (directory / name).unlink(missing_ok=True)
        text = json.dumps(trimmed, ensure_ascii=False)
        (directory / TOKENIZER).write_text(text, encoding="utf-8")
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    # Where it was read from is of no use to whom it is given to.
    found.init_kwargs |= {"local_files_only": False}
    expected = {token: ids[old] for token, old in tokenizer.get_vocab().items() if old in ids}
    if found.get_vocab() != expected:
        other = sorted(set(found.get_vocab().items()) ^ set(expected.items()))[:3]
        raise InputError(
            f"tokenizer: {type(tokenizer).__name__}: transformers gives tokens of the trimmed tokenizer.json "
            f"other ids, among them {other}; set prune.vocabulary.rows: 0"
        )
    return found


def trimmed_backend(backend: Mapping[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    """A tokenizer.json with only the tokens of `ids`: vocabulary, merges, and every id that it names."""
    model = _trimmed_model(backend["model"], ids)
    added = [item | {"id": ids[item["id"]]} for item in backend["added_tokens"] if item["id"] in ids]
    changed: dict[str, Any] = {
        "model": model,
        "added_tokens": sorted(added, key=lambda item: int(item["id"])),
        "post_processor": _trimmed_step(backend["post_processor"], ids),
    }
    if backend["padding"]:
        changed["padding"] = backend["padding"] | {"pad_id": ids[backend["padding"]["pad_id"]]}
    return {**backend, **changed}


def _trimmed_model(model: Mapping[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    if isinstance(model["vocab"], list):
        kept = sorted((new, old) for old, new in ids.items() if old < len(model["vocab"]))
        unknown = model["unk_id"]
        return {
            **model,
            "vocab": [model["vocab"][old] for _, old in kept],
            "unk_id": None if unknown is None else ids[unknown],
        }
    vocabulary = {token: ids[old] for token, old in model["vocab"].items() if old in ids}
    vocabulary = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    merges = [
        [left, right]
        for left, right in model["merges"]
        if left in vocabulary and right in vocabulary and left + right in vocabulary
    ]
    return {**model, "vocab": vocabulary, "merges": merges}


def _trimmed_step(step: dict[str, Any] | None, ids: Mapping[int, int]) -> dict[str, Any] | None:
    """A post-processor with new ids."""
    if step is None:
        return None
    if step["type"] == "Sequence":
        return step | {"processors": [_trimmed_step(inner, ids) for inner in step["processors"]]}
    changed: dict[str, Any] = {
        key: [step[key][0], ids[step[key][1]]] for key in ("cls", "sep") if key in step
    }
    if "special_tokens" in step:
        changed["special_tokens"] = {
            name: item | {"ids": [ids[old] for old in item["ids"]]}
            for name, item in step["special_tokens"].items()
        }
    return step | changed
