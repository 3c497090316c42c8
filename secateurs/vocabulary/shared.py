"""A dense model's text in the vocabulary of the pruned one."""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from secateurs.text.documents import Sequence as Row
from secateurs.text.recutting import recut


def in_tokens_of(
    text: Mapping[str, Tensor], tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase
) -> dict[str, Tensor]:
    """Rows of `tokenizer`'s ids, int64 [sequences, tokens] by domain, cut by `other` and as long as before.

    What becomes longer is cut off at the end; a row that becomes shorter, because a character at its end was
    cut in two, is left out.
    """
    found = {}
    for domain, ids in text.items():
        rows = recut([Row(domain, (), tuple(row)) for row in ids.tolist()], tokenizer, other)
        length = ids.shape[1]
        found[domain] = torch.tensor([row.input_ids[:length] for row in rows if len(row.input_ids) >= length])
    return found
