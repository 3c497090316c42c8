"""The sites that a budget names, where the model's family can be pruned like that."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from secateurs.errors import SettingError
from secateurs.kinds.sites import Site, sites_of

# transformers multiplies all experts at once and wants rows of whole 16 bytes, in half precision too.
EXPERT_MULTIPLE = 8


def chosen_sites(model: PreTrainedModel, kinds: Sequence[str], widths: str, multiple: int) -> list[Site]:
    """The sites of these kinds, of a model whose experts are opened.

    widths, multiple: `prune.widths` and `prune.width_multiple`, which experts restrict. Raises InputError for
    a kind that the family refuses, and for widths that experts cannot have.
    """
    sites = sites_of(model, tuple(kinds))
    if any(site.expert is not None for site in sites):
        _check_experts(widths, multiple)
    return sites


def _check_experts(widths: str, multiple: int) -> None:
    if widths == "per_layer":
        raise SettingError("prune.widths: per_layer: the experts of a layer must have one width; use uniform")
    if multiple % EXPERT_MULTIPLE:
        raise SettingError(
            f"prune.width_multiple: {multiple}: widths of experts must be multiples of "
            f"{EXPERT_MULTIPLE}, for grouped matrix products"
        )
