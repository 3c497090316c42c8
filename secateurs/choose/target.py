"""How much a budget takes away, whichever way it is asked for: a share, parameters, bytes, multiply-adds."""

from collections import defaultdict
from collections.abc import Mapping
from math import floor, fsum

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.choose.allocation import parts, per_layer_masks, removable, uniform_masks
from secateurs.choose.candidates import candidates_of
from secateurs.choose.multiply_adds import work_of
from secateurs.choose.weight_bytes import FORMATS, PRECISIONS, bound, weight_bytes
from secateurs.errors import SettingError
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.decoder import decoder_parameters
from secateurs.kinds.registry import units
from secateurs.kinds.sites import chosen_sites
from secateurs.settings.pruning import Prune
from secateurs.vocabulary.embedding_rows import row_parameters, vocabulary_rows

# Relative to what was asked for.
_MUCH = 0.1


def decoder_share(model: PreTrainedModel, budget: Prune) -> float:
    """The share of the dense model's decoder parameters that a budget asks to be gone; 0 if it has no target.

    model: the dense one, its experts opened. With P parameters in all once the vocabulary's rows are gone
    that the budget takes, D in the decoder, and weights of which a parameter takes e bytes with it:

        sparsity                (P - parameters) / D                ceil((bound - bytes) / e) / D

    See weight_bytes.bound for the last: what is left takes no more bytes than were asked for, whichever units
    go. So it is with multiply-adds (multiply_adds.Work). The share may be one that no model can meet; see
    check_target.
    """
    if budget.sparsity is not None:
        return budget.sparsity
    asked = 0
    if budget.parameters is not None:
        asked = whole_parameters(model, budget) - budget.parameters
    elif budget.memory is not None:
        asked = bound(model, budget, budget.memory.precision).parameters(budget.memory.bytes)
    elif budget.multiply_adds is not None:
        asked = work_of(model, budget).parameters(budget.multiply_adds)
    return asked / decoder_parameters(model)


def whole_parameters(model: PreTrainedModel, budget: Prune) -> int:
    """The parameters of a dense model once the rows of the vocabulary are gone that the budget takes.

    Raises InputError if it leaves more of them than there are.
    """
    there, rows = vocabulary_rows(model), budget.vocabulary.rows
    if rows > there:
        raise SettingError(f"prune.vocabulary.rows: {rows}: the model has {there}; ask for fewer")
    gone = there - rows if rows else 0
    return model.num_parameters() - gone * row_parameters(model)


def check_target(model: PreTrainedModel, budget: Prune) -> None:
    """Raise InputError where a dense model, its experts opened, cannot be cut to what a budget asks for.

    The message names the nearest target that can be met.
    """
    whole = whole_parameters(model, budget)
    if not budget.sites:
        return
    total, most = decoder_parameters(model), most_removable(model, budget)
    asked = round(decoder_share(model, budget) * total)
    where, memory = f"prune.{written(budget)}", budget.memory
    held, what = whole, "parameters"
    if memory is not None:
        held = weight_bytes(model, memory.precision, budget.vocabulary.rows)
        what = "bytes of weights at that precision"
    elif budget.multiply_adds is not None:
        held, what = macs_per_token(model, budget.vocabulary.rows), "multiply-adds a token"
    if asked == 0 and budget.sparsity is not None:
        raise SettingError(f"{where}: not one of the decoder's {total:,} parameters would go; raise it")
    if asked <= 0 or (memory is not None and memory.bytes >= held):
        what += f" with {budget.vocabulary.rows:,} rows of the vocabulary" if budget.vocabulary.rows else ""
        raise SettingError(
            f"{where}: the dense model has no more than {held:,} {what}; ask for less than those"
        )
    if asked > most:
        raise SettingError(
            f"{where}: asks for {asked:,} of the decoder's {total:,} parameters to go, but prune.sites with "
            f"prune.floor: {budget.floor} leave at most {most:,} to remove; {_nearest(model, budget, most)}; "
            f"or lower the floor, or add a site{rows_remedy(model, budget)}"
        )
    for kind, part in parts(budget.shares, asked).items():
        own = most_removable(model, budget.changed(sites=[kind], shares={}))
        if part > own * (1 + _MUCH):
            raise SettingError(
                f"prune.shares: {kind}: {budget.shares[kind]:g}: asks for {round(part):,} of the {asked:,} "
                f"parameters that go, but prune.floor: {budget.floor} leaves at most {own:,} of {kind} to "
                "remove; lower the share or the floor"
            )


def rows_remedy(model: PreTrainedModel, budget: Prune) -> str:
    """What makes a target of bytes cheaper to meet where rows may be no whole blocks; else nothing."""
    memory = budget.memory
    if memory is None or not bound(model, budget, memory.precision).whole:
        return ""
    block = FORMATS[PRECISIONS[memory.precision][0]].block
    return (
        f"; rows that are no whole number of blocks of {block} weights stay in 32 bits, which a "
        f"prune.width_multiple of {block} prevents in mlp"
    )


def reached_share(model: PreTrainedModel, budget: Prune) -> float:
    """The share of the decoder's parameters that goes in whole steps, if all units count alike.

    model: its experts opened. The budget is one that can be met (check_target).
    """
    return fsum(_reached(model, budget).values())


def rounding(model: PreTrainedModel, budget: Prune) -> list[str]:
    """What to say where whole steps make something else of a budget than was asked for; as reached_share."""
    asked, reached = decoder_share(model, budget), _reached(model, budget)
    said = [coarse_steps(budget, asked, fsum(reached.values()))]
    for kind, part in parts(budget.shares, 1).items():
        if abs(reached[kind] - part * asked) > _MUCH * asked:
            much = _much(reached[kind], part * asked)
            share = f"prune.shares: {kind}: {budget.shares[kind]:g}"
            said.append(f"{share}: whole {units([kind])} take {much}; other shares may come nearer")
    return [one for one in said if one]


def coarse_steps(budget: Prune, asked: float, reached: float) -> str:
    """What to say where whole steps take much more of the decoder than was asked for; otherwise nothing."""
    if reached <= asked * (1 + _MUCH):
        return ""
    much, multiple = _much(reached, asked), budget.width_multiple
    if "mlp" in budget.sites and multiple > 1:
        return f"prune.width_multiple: {multiple}: whole steps take {much}; a smaller multiple comes nearer"
    sites, remedy = ", ".join(budget.sites), "ask for as much, or choose sites of smaller units"
    return f"prune.sites: {sites}: whole {units(budget.sites)} take {much}; {remedy}"


def _much(reached: float, asked: float) -> str:
    return f"{reached:.1%} of the decoder's parameters, where {asked:.1%} were asked for"


def _reached(model: PreTrainedModel, budget: Prune) -> dict[str, float]:
    """By kind, the share of the decoder's parameters that goes."""
    total = decoder_parameters(model)
    sites = chosen_sites(model, budget.sites, budget.widths, budget.width_multiple)
    scores = {site.name: torch.zeros(site.units, dtype=torch.float64) for site in sites}
    candidates = candidates_of(model, budget, scores, {})
    allocate = uniform_masks if budget.widths == "uniform" else per_layer_masks
    masks = allocate(candidates, round(decoder_share(model, budget) * total), budget.floor, budget.shares)
    found = dict.fromkeys(budget.sites, 0.0)
    for one in candidates:
        found[one.kind] += one.cost * int((~masks[one.name]).sum()) / total
    return found


def written(budget: Prune) -> str:
    """The target of a budget as it stands under `prune` in params.yaml."""
    if budget.memory is not None:
        return f"memory: {{bytes: {budget.memory.bytes}, precision: {budget.memory.precision}}}"
    if budget.parameters is not None:
        return f"parameters: {budget.parameters}"
    if budget.multiply_adds is not None:
        return f"multiply_adds: {budget.multiply_adds}"
    return f"sparsity: {budget.sparsity}"


def _nearest(model: PreTrainedModel, budget: Prune, most: int) -> str:
    """What to ask for instead: the smallest target of the same kind that removes no more than `most`."""
    found = "the nearest that can be met is prune."
    if budget.memory is not None:
        precision = budget.memory.precision
        left = bound(model, budget, precision).left(most)
        if left >= weight_bytes(model, precision, budget.vocabulary.rows):
            return "no target of bytes can be met with certainty"
        return f"{found}memory: {{bytes: {left}, precision: {precision}}}"
    if budget.parameters is not None:
        return f"{found}parameters: {whole_parameters(model, budget) - most}"
    if budget.multiply_adds is not None:
        return f"{found}multiply_adds: {work_of(model, budget).left(most)}"
    # Four digits, rounded towards what can be met.
    return f"{found}sparsity: {floor(most / decoder_parameters(model) * 10_000) / 10_000}"


def most_removable(model: PreTrainedModel, budget: Prune) -> int:
    """Parameters that go when every site of the budget is cut to its floor. model: its experts opened."""
    # Sizes do not ask what units are worth.
    scores: Mapping[str, Tensor] = defaultdict(lambda: torch.zeros(1))
    return removable(candidates_of(model, budget, scores, {}), budget.floor)
