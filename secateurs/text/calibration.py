"""Calibration text as the method takes it: token ids by domain."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.text.documents import Sequence
from secateurs.text.packing import Piece, pack, tokens_of
from secateurs.text.rows import Text


def by_domain(rows: Iterable[Sequence]) -> Text:
    """Rows by domain, domains in the order of their first row."""
    grouped: dict[str, list[Sequence]] = {}
    for row in rows:
        grouped.setdefault(row.domain, []).append(row)
    return Text(
        {domain: torch.tensor([row.input_ids for row in found]) for domain, found in grouped.items()},
        {
            domain: torch.tensor([row.answers for row in found])
            for domain, found in grouped.items()
            if found[0].answers
        },
    )


def pack_text(tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Iterable[str]], length: int) -> Text:
    """Tokenise the texts of each domain, lay them end to end and cut them into sequences of `length` tokens.

    texts: the documents of each domain. What does not fill a last sequence is left out. Raises InputError for
    a domain that does not fill one.
    """
    tokens = tokens_of(tokenizer, Path("tokenizer"))
    packed = {}
    for domain, documents in texts.items():
        if isinstance(documents, str):
            raise InputError(f"text: {domain}: is one string; give a list of documents")
        pieces = (Piece("", [*tokens.before, *tokens.encode(text), *tokens.after], []) for text in documents)
        rows = pack(domain, pieces, length, wanted=None)
        if not rows:
            raise InputError(f"text: {domain}: is shorter than one sequence of {length} tokens; give it more")
        packed[domain] = torch.tensor([row.input_ids for row in rows])
    return Text(packed)
