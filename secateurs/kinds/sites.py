"""The sites of a model, of whatever kinds, and what masks take away from them."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.errors import InputError, SettingError
from secateurs.families.decoder import decoder_layers
from secateurs.kinds.config import resize_config
from secateurs.kinds.kind import Masks, Site
from secateurs.kinds.names import pruned_kinds
from secateurs.kinds.registry import exclusions, kinds


def sites_of(model: PreTrainedModel, names: Collection[str] | None = None) -> list[Site]:
    """All sites of the named kinds (None: of every kind that the model has), in the order data flows.

    model: its experts opened. Raises InputError for a kind that this model refuses.
    """
    chosen = []
    for name, kind in kinds().items():
        reason = kind.refusal(model.config)
        if names is not None and name in names and reason is not None:
            raise SettingError(f"prune.sites: {name}: not for {model.config.model_type}: {reason}")
        if reason is None and (names is None or name in names):
            chosen.append(kind)
    sites = [site for kind in chosen for site in kind.sites(model)]
    return sorted(sites, key=lambda site: site.layer)


def chosen_sites(model: PreTrainedModel, names: Sequence[str], widths: str, multiple: int) -> list[Site]:
    """The sites of these kinds, where they can be cut as the settings ask.

    widths, multiple: `prune.widths` and `prune.width_multiple`. Raises InputError for kinds that exclude each
    other, a kind that this model refuses, and widths that it cannot have.
    """
    for reason in exclusions(names):
        raise SettingError(f"prune.sites: {list(names)}: {reason}")
    sites = sites_of(model, names)
    for kind in (kinds()[name] for name in names):
        problem = kind.problem([site for site in sites if site.kind is kind], widths, multiple)
        if problem is not None:
            raise SettingError(problem)
    return sites


def all_kept_masks(model: PreTrainedModel) -> dict[str, Tensor]:
    """Masks that remove nothing, for every site of more than one unit, of every kind."""
    return {site.name: torch.ones(site.units, dtype=torch.bool) for site in sites_of(model) if site.units > 1}


def kept_units(masks: Masks, site: Site) -> Tensor:
    """The site's mask, bool [units]; all True where it has none."""
    mask = masks.get(site.name)
    return torch.ones(site.units, dtype=torch.bool) if mask is None else mask


def pruned_sites(model: PreTrainedModel, masks: Masks) -> list[Site]:
    """The sites of which `masks` removes something. Raises InputError where masks do not fit the model."""
    sites = {site.name: site for site in sites_of(model)}
    unknown = set(masks) - set(sites)
    if unknown:
        raise InputError(f"masks: {', '.join(sorted(unknown))}: the model has no such site")
    for name, mask in masks.items():
        if mask.shape != (sites[name].units,):
            raise InputError(
                f"masks: {name}: {tuple(mask.shape)} does not fit the model's {sites[name].units} units"
            )
    return [site for name, site in sites.items() if name in masks and not bool(masks[name].all())]


def cut(model: PreTrainedModel, masks: Masks) -> None:
    """Remove every masked unit of `model` in place and make its config say so.

    Layers keep their numbers, so that what is measured of the result is still the dense model's; `finish`
    brings it to the form in which it is saved.
    """
    layers = decoder_layers(model)
    for site in pruned_sites(model, masks):
        layers[site.layer] = site.kind.cut(layers[site.layer], site, masks[site.name])
    resize_config(model.config, masks)


def finish(model: PreTrainedModel, masks: Masks) -> None:
    """Bring a model that was cut by these masks, and its config, to the form in which they are saved."""
    for name in sorted(pruned_kinds(masks)):
        kinds()[name].finish(model)
