"""How much a budget takes away, whichever way it is asked for: a share, parameters, or bytes of weights."""

from collections import defaultdict
from collections.abc import Mapping
from math import ceil, floor

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.choose.allocation import candidates_of, removable
from secateurs.errors import SettingError
from secateurs.families.decoder import decoder_parameters
from secateurs.settings.method import Budget

# Bits of a weight in matrices, in embeddings and head, and in norms and biases. Those of the formats with
# blocks of 32 weights count the scales of the blocks; embeddings and head stay at 8 bits there, as the export
# writes them.
PRECISIONS: dict[str, tuple[float, float, float]] = {
    "float32": (32, 32, 32),
    "bfloat16": (16, 16, 16),
    "float16": (16, 16, 16),
    "q8_0": (8.5, 8.5, 32),
    "q5_1": (6, 8.5, 32),
    "q5_0": (5.5, 8.5, 32),
    "q4_1": (5, 8.5, 32),
    "q4_0": (4.5, 8.5, 32),
}


def weight_bytes(model: PreTrainedModel, precision: str) -> int:
    """Bytes that the weights of a model take at a precision, a key of PRECISIONS; shared ones count once.

    The sum over weights of parameters times bits / 8. Buffers, activations and the cache of keys and values
    come on top in use.
    """
    matrices, vocabulary, others = PRECISIONS[precision]
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    ids = {id(weight) for module in ends if module is not None for weight in module.parameters()}
    bits = sum(
        weight.numel() * (vocabulary if id(weight) in ids else matrices if weight.dim() > 1 else others)
        for weight in model.parameters()
    )
    return ceil(bits / 8)


def decoder_share(model: PreTrainedModel, budget: Budget) -> float:
    """The share of the dense model's decoder parameters that a budget asks to be gone.

    With P parameters in all, D in the decoder, and weights of B bytes at b bits a weight of a matrix:

        sparsity                (P - parameters) / D                ceil((B - bytes) * 8 / b) / D

    Weights of a unit count as weights of matrices, its biases too: what is left then takes no more bytes than
    were asked for. The share may be one that no model can meet; see check_target.
    """
    if budget.sparsity is not None:
        return budget.sparsity
    if budget.parameters is not None:
        asked = model.num_parameters() - budget.parameters
    else:
        assert budget.memory is not None, "a checked budget has one target"
        matrices, *_ = PRECISIONS[budget.memory.precision]
        asked = ceil((weight_bytes(model, budget.memory.precision) - budget.memory.bytes) * 8 / matrices)
    return asked / decoder_parameters(model)


def check_target(model: PreTrainedModel, budget: Budget) -> None:
    """Raise InputError where a dense model, its experts opened, cannot be cut to what a budget asks for.

    The message names the nearest target that can be met.
    """
    total, most = decoder_parameters(model), _most_removable(model, budget)
    asked = round(decoder_share(model, budget) * total)
    where = f"prune.{written(budget)}"
    if asked <= 0:
        held = (
            f"{model.num_parameters():,} parameters"
            if budget.memory is None
            else f"{weight_bytes(model, budget.memory.precision):,} bytes of weights at that precision"
        )
        raise SettingError(f"{where}: the dense model has no more than {held}; ask for less than those")
    if asked > most:
        raise SettingError(
            f"{where}: asks for {asked:,} of the decoder's {total:,} parameters to go, but prune.sites with "
            f"prune.floor: {budget.floor} leave at most {most:,} to remove; the nearest that can be met is "
            f"prune.{_nearest(model, budget, most)}; or lower the floor, or add a site"
        )


def written(budget: Budget) -> str:
    """The target of a budget as it stands under `prune` in params.yaml."""
    if budget.memory is not None:
        return f"memory: {{bytes: {budget.memory.bytes}, precision: {budget.memory.precision}}}"
    if budget.parameters is not None:
        return f"parameters: {budget.parameters}"
    return f"sparsity: {budget.sparsity}"


def _nearest(model: PreTrainedModel, budget: Budget, most: int) -> str:
    """The smallest target of the same kind that removes no more than `most` parameters."""
    if budget.memory is not None:
        precision = budget.memory.precision
        left = ceil(weight_bytes(model, precision) - most * PRECISIONS[precision][0] / 8)
        return f"memory: {{bytes: {left}, precision: {precision}}}"
    if budget.parameters is not None:
        return f"parameters: {model.num_parameters() - most}"
    # Four digits, rounded towards what can be met.
    return f"sparsity: {floor(most / decoder_parameters(model) * 10_000) / 10_000}"


def _most_removable(model: PreTrainedModel, budget: Budget) -> int:
    """Parameters that go when every site of the budget is cut to its floor."""
    # Sizes do not ask what units are worth.
    scores: Mapping[str, Tensor] = defaultdict(lambda: torch.zeros(1))
    return removable(candidates_of(model, budget, scores, {}), budget.floor)
