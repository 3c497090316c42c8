"""What `prune.sites: auto` will try, before anything runs."""

import copy

from transformers import PreTrainedModel

from secateurs.choose.options import Options, options
from secateurs.choose.target import written
from secateurs.errors import SettingError
from secateurs.families.decoder import decoder_parameters
from secateurs.families.fused_experts import open_experts
from secateurs.kinds.registry import kinds
from secateurs.settings.pruning import AUTO
from stages.params.file import Params


def tried(params: Params, model: PreTrainedModel) -> Options:
    """What is tried of a model. Raises InputError where that is nothing."""
    found = options(open_experts(copy.deepcopy(model)), params.prune, params.mask.metric)
    if not found.decoder and not found.rows:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.unused.items())
        raise SettingError(f"prune.auto.kinds: none of them can go: {reasons}")
    return found


def option_lines(params: Params, model: PreTrainedModel, found: Options) -> list[str]:
    """The trials, a line for each kind, and why others are left out."""
    total = decoder_parameters(model)
    count = len(found.rows) + sum(map(len, found.decoder.values()))
    lines = [f"Target prune.{written(params.prune)}. prune.sites: auto chooses by {count} trials:"]
    if found.rows:
        lines.append(f"  vocabulary: {', '.join(f'{rows:,}' for rows in found.rows)} rows left")
    for name, budgets in found.decoder.items():
        shares = ", ".join(f"{budget.sparsity:.1%}" for budget in budgets)
        lines.append(f"  {name}: {shares} of the decoder's {total:,} parameters")
    return [*lines, *(f"  not {name}: {reason}" for name, reason in found.unused.items())]


def standing_in(params: Params, model: PreTrainedModel) -> Params:
    """The params with a kind in the place of `auto` that makes up any target; estimates rest on it."""
    if params.prune.sites != AUTO:
        return params
    names = list(tried(params, model).decoder)
    filling = [name for name in names if kinds()[name].fills_up] or names
    if not filling:
        raise SettingError("prune.auto.kinds: no kind in the decoder can go; set prune.vocabulary.rows")
    return params.changed(prune=params.prune.changed(sites=filling[:1]))
