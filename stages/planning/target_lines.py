"""What the target of params.yaml comes to for the model that it names, before anything runs."""

import copy

from transformers import PreTrainedModel

from secateurs.choose.multiply_adds import work_of
from secateurs.choose.target import (
    check_target,
    decoder_share,
    rounding,
    rows_remedy,
    whole_parameters,
    written,
)
from secateurs.choose.weight_bytes import weight_bytes
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.decoder import decoder_parameters
from secateurs.families.fused_experts import open_experts
from secateurs.vocabulary.embedding_rows import vocabulary_rows
from stages.params.file import Params


def check_budget(params: Params, model: PreTrainedModel) -> None:
    """Raise InputError where a model, by its shapes alone, cannot be cut to the target of params.yaml."""
    check_target(open_experts(copy.deepcopy(model)), params.prune)


def target_lines(params: Params, model: PreTrainedModel) -> list[str]:
    """The target as a share of the decoder, in parameters that are left, and in bytes on disk.

    Whole steps of `width_multiple` channels go, so that what is left may be less, never more.
    """
    budget, dtype = params.prune, params.compute.dtype
    opened = open_experts(copy.deepcopy(model))
    share, whole = decoder_share(opened, budget), model.num_parameters()
    gone = round(share * decoder_parameters(model))
    left = whole_parameters(model, budget) - gone
    bytes_left = weight_bytes(model, dtype) * left / whole
    if not budget.sites:
        rows = budget.vocabulary.rows
        return [
            f"No channels go; {rows:,} of {vocabulary_rows(model):,} rows of the vocabulary stay. Of",
            f"{whole:,} parameters {left:,} are left ({left / whole:.1%}), {_megabytes(bytes_left)} on disk",
            f"in {dtype}.",
        ]
    lines = [
        f"Target prune.{written(budget)}: {share:.1%} of the decoder's parameters go. At most {left:,} of",
        f"{whole:,} parameters are left ({left / whole:.1%}), {_megabytes(bytes_left)} on disk in {dtype}.",
    ]
    if budget.multiply_adds is not None:
        dense, taken = macs_per_token(model), work_of(opened, budget).left(gone)
        lines.append(f"A token takes at most {taken:,} of {dense:,} multiply-adds ({taken / dense:.1%}).")
    if budget.memory is not None and budget.memory.precision != dtype:
        lines.append(
            f"At {budget.memory.precision} they take {_megabytes(budget.memory.bytes)}; data/pruned is in "
            f"{dtype}, and docs/recipes.md says what writes it smaller."
        )
    lines += [f"Warning: {one}." for one in rounding(opened, budget)]
    if remedy := rows_remedy(opened, budget):
        lines.append(f"Warning: prune.{written(budget)}{remedy}.")
    return lines


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
