"""What `prune.sites: auto` will try of a model, before anything runs."""

import copy

from transformers import PreTrainedModel

from secateurs.choose.options import Options, options
from secateurs.errors import SettingError
from secateurs.families.fused_experts import open_experts
from secateurs.kinds.registry import kinds
from secateurs.settings.pruning import AUTO, NO_TARGET, Prune


def tried(prune: Prune, metric: str, model: PreTrainedModel) -> Options:
    """What is tried of a model with its experts closed. Raises InputError where that is nothing."""
    found = options(open_experts(copy.deepcopy(model)), prune, metric)
    if not found.decoder and not found.rows:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.unused.items())
        raise SettingError(f"prune.auto.kinds: none of them can go: {reasons}")
    return found


def standing_in(prune: Prune, found: Options) -> Prune:
    """The settings with a kind in the place of `auto` that makes up any target; estimates rest on it.

    Where tokens alone can go, with as many rows as the last of their trials leaves.
    """
    if prune.sites != AUTO:
        return prune
    filling = [name for name in found.decoder if kinds()[name].fills_up] or list(found.decoder)
    if filling:
        return prune.changed(sites=filling[:1])
    rows = prune.vocabulary.changed(rows=found.rows[-1])
    return prune.changed(sites=[], vocabulary=rows, **NO_TARGET)
