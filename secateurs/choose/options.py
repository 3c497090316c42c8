"""What `prune.sites: auto` tries: how much of each kind, by the shapes of a model alone."""

import math
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from secateurs.choose.candidates import candidates_of
from secateurs.choose.multiply_adds import takes_none
from secateurs.choose.target import decoder_share, most_removable, reached_share, whole_parameters, written
from secateurs.choose.weight_bytes import weight_bytes
from secateurs.errors import InputError, SettingError
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.decoder import decoder_parameters
from secateurs.kinds.registry import NAMES, kinds
from secateurs.kinds.sites import chosen_sites
from secateurs.settings.pruning import NO_TARGET, ROWS_MULTIPLE, VOCABULARY, Prune
from secateurs.vocabulary.embedding_rows import row_parameters, vocabulary_rows


@dataclass(frozen=True)
class Options:
    """What is to be tried of a model.

    target: how much is to go, as target_of counts it. decoder: the budgets of each kind's trials, each more
    than the one before. rows: how many rows of the vocabulary are left in its trials, each fewer. units: the
    parameters of the smallest step of each kind. unused: why kinds of `prune.auto.kinds` are not tried.
    """

    target: int
    decoder: dict[str, list[Prune]]
    rows: list[int]
    units: dict[str, int]
    unused: dict[str, str]


def options(model: PreTrainedModel, prune: Prune, metric: str, least_rows: int = 0) -> Options:
    """The options for a target. model: the dense one, its experts opened; on the meta device, too.

    The n-th of N trials removes n / N of the target by its kind alone, in whole steps, as far as
    `prune.floor` allows; trials that come to the same are one. least_rows: tokens that must stay.
    Raises InputError for a target that takes nothing from the model.
    """
    target = target_of(model, prune)
    if target <= 0:
        raise SettingError(f"prune.{written(prune)}: the dense model has no more than that; ask for less")
    found = Options(target, {}, [], {}, {})
    for name in [name for name in NAMES if name in prune.auto.kinds]:
        budgets = _budgets(model, prune, metric, name, target)
        if isinstance(budgets, str):
            found.unused[name] = budgets
        else:
            found.decoder[name], found.units[name] = budgets, _step(model, budgets[0])
    if VOCABULARY in prune.auto.kinds:
        rows = _rows(model, prune, target, least_rows)
        if isinstance(rows, str):
            found.unused[VOCABULARY] = rows
        else:
            found.rows.extend(rows)
            found.units[VOCABULARY] = ROWS_MULTIPLE * row_parameters(model)
    return found


def target_of(model: PreTrainedModel, prune: Prune) -> int:
    """How much is to go besides `prune.vocabulary.rows`, in what the target is in."""
    if prune.sparsity is not None:
        return round(prune.sparsity * decoder_parameters(model))
    if prune.parameters is not None:
        return whole_parameters(model, prune) - prune.parameters
    if prune.multiply_adds is not None:
        return macs_per_token(model, prune.vocabulary.rows) - prune.multiply_adds
    assert prune.memory is not None, "checked settings have one target"
    return weight_bytes(model, prune.memory.precision, prune.vocabulary.rows) - prune.memory.bytes


def _budgets(model: PreTrainedModel, prune: Prune, metric: str, name: str, target: int) -> list[Prune] | str:
    """The budgets of one kind, or why there are none."""
    if metric not in kinds()[name].metrics:
        return f"it has no score called {metric}"
    if prune.multiply_adds is not None and not kinds()[name].computes:
        return takes_none(kinds()[name].unit)
    whole = prune.vocabulary.changed(rows=0)
    only = prune.changed(sites=[name], shares={}, vocabulary=whole, **NO_TARGET | {"sparsity": 0.5})
    try:
        there = chosen_sites(model, [name], prune.widths, prune.width_multiple)
        most = most_removable(model, only) if there else 0
    except InputError as error:
        return str(error)
    if not most:
        return "the model has none that can go"
    total, wanted = decoder_parameters(model), float(target)
    if prune.memory is not None or prune.multiply_adds is not None:
        # As many parameters as meet the target by this kind alone.
        wanted = decoder_share(model, prune.changed(sites=[name])) * total
    found: dict[float, Prune] = {}
    for number in range(1, prune.auto.trials + 1):
        share = min(wanted * number / prune.auto.trials, most) / total
        budget = only.changed(sparsity=share)
        found.setdefault(reached_share(model, budget), budget)
    return list(found.values())


def _step(model: PreTrainedModel, budget: Prune) -> int:
    """Parameters that go with the smallest step of a budget's one kind."""
    sites = chosen_sites(model, budget.sites, budget.widths, budget.width_multiple)
    scores = {site.name: torch.zeros(site.units, dtype=torch.float64) for site in sites}
    candidates = candidates_of(model, budget, scores, {})
    steps = [one.step * one.cost for one in candidates]
    alone = budget.widths == "per_layer" or any(one.pool for one in candidates)
    return min(steps) if alone else sum(steps)


def _rows(model: PreTrainedModel, prune: Prune, target: int, least: int) -> list[int] | str:
    """How many rows are left, or why none go."""
    if prune.sparsity is not None:
        return "prune.sparsity counts the decoder alone; with any other target rows count too"
    if prune.vocabulary.rows:
        return f"prune.vocabulary.rows: {prune.vocabulary.rows} is given"
    there, each = vocabulary_rows(model), row_parameters(model)
    if prune.memory is not None:
        precision = prune.memory.precision
        each = weight_bytes(model, precision) - weight_bytes(model, precision, there - 1)
    elif prune.multiply_adds is not None:
        each = macs_per_token(model) - macs_per_token(model, there - 1)
    fewest = max(least, math.ceil(prune.floor * there))
    fewest += -fewest % ROWS_MULTIPLE
    found: list[int] = []
    for number in range(1, prune.auto.trials + 1):
        rows = max(int(there - target * number / prune.auto.trials / each), fewest)
        rows -= rows % ROWS_MULTIPLE
        if rows < there and rows not in found:
            found.append(rows)
    return found or "too few can go"
