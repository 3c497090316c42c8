"""Rows of one tokenizer's ids as rows of another's: the same text, cut anew."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from secateurs.text.documents import Sequence as Row

# What a decoder makes of bytes that are no character: here, of one that a row's end cuts in two.
_BROKEN = "\ufffd"


def same_cut(tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers have the same tokens under the same ids."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary == other.get_vocab()


def recut(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase
) -> list[Row]:
    """The text of rows that `tokenizer` cut, cut by `other`; rows are then of different lengths.

    Added tokens stay what they are, and what stands between them is cut as text of its own. Of a character
    that the end of a row cuts in two nothing is left. `other` must have all added tokens that stand in rows.
    """
    ids_of = other.get_vocab()
    same = {index: ids_of[str(token)] for index, token in tokenizer.added_tokens_decoder.items()}

    def cut(ids: list[int]) -> list[int]:
        text = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)).strip(_BROKEN)
        found: list[int] = other(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def anew(row: Row) -> Row:
        ids: list[int] = []
        for is_added, run in groupby(row.input_ids, same.__contains__):
            found = list(run)
            ids += map(same.__getitem__, found) if is_added else cut(found)
        return replace(row, input_ids=tuple(ids))

    return [anew(row) for row in rows]
