"""The sites that params.yaml chooses, where the model's family can be pruned like that."""

from transformers import PreTrainedModel

from stages.errors import InputError
from stages.params import PARAMS_FILE, Prune
from stages.pruning.families import Site, sites_of

# transformers multiplies all experts at once and wants rows of whole 16 bytes, in half precision too.
EXPERT_MULTIPLE = 8


def chosen_sites(model: PreTrainedModel, prune: Prune) -> list[Site]:
    """The sites of the kinds in `prune.sites`, of a model whose experts are opened.

    Raises InputError for a kind that the family refuses, and for widths that experts cannot have.
    """
    sites = sites_of(model, tuple(prune.sites))
    if any(site.expert is not None for site in sites):
        _check_experts(prune)
    return sites


def _check_experts(prune: Prune) -> None:
    if prune.widths == "per_layer":
        raise InputError(
            f"{PARAMS_FILE}: prune.widths: per_layer: the experts of a layer must have one width; use uniform"
        )
    if prune.width_multiple % EXPERT_MULTIPLE:
        raise InputError(
            f"{PARAMS_FILE}: prune.width_multiple: {prune.width_multiple}: widths of experts must be "
            f"multiples of {EXPERT_MULTIPLE}, for grouped matrix products"
        )
