"""Embeddings and output head as one matrix, where a quantised file holds the same matrix twice."""

from typing import Any

import torch
from transformers import PreTrainedModel

# Two quantisations of one matrix differ by 0.04 of its size (Q5_0 and Q8_0) to 0.3 (2 bits); two matrices
# that were trained apart differ by about as much as they are large.
SAME = 0.5
_ROWS = 16384


@torch.no_grad()
def share_head(model: PreTrainedModel) -> float | None:
    """Make embeddings and head one matrix again if they are quantisations of one; their difference then.

    A file for llama.cpp may hold the embeddings of a model that ties them a second time, as `output.weight`,
    in more bits. transformers then loads two matrices, where the published model has one. What stays is the
    head's matrix, the more precise of the two: it makes the logits, and its rows serve as embeddings too.

    Returns ||embeddings - head|| / ||head||, or None where nothing was shared.
    """
    # transformers' types take the modules for any module.
    embeddings: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if head is None or embeddings.weight is head.weight or embeddings.weight.shape != head.weight.shape:
        return None
    apart = size = 0.0
    for one, other in zip(embeddings.weight.split(_ROWS), head.weight.split(_ROWS), strict=True):
        apart += float((one.float() - other.float()).square().sum(dtype=torch.float64))
        size += float(other.float().square().sum(dtype=torch.float64))
    difference = (apart / size) ** 0.5 if size else float("inf")
    if difference > SAME:
        return None
    embeddings.weight = head.weight
    model.config.tie_word_embeddings = True
    model.tie_weights()
    return difference
