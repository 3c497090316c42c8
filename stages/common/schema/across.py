"""The checks of params.yaml that span its groups: each returns what is wrong, a line a problem."""

import math
from typing import TYPE_CHECKING

from stages.common.schema.groups import GRADIENT_METRICS

if TYPE_CHECKING:
    from stages.common.params import Params

SELF_DOMAIN = "self"
# What a recovery adds, by its key under `recover`. No domain of params.yaml has a space in its name.
OWN_KINDS = {"plain": "own text", "dialogues": "own dialogues"}
DENSE = "dense"


def problems_across(params: "Params") -> list[str]:
    """All problems, as `key: value: what would be right`; empty where the groups agree."""
    return [
        *_mixture_problems(params),
        *_round_problems(params),
        *_budget_problems(params),
        *_recovery_problems(params),
    ]


def _mixture_problems(params: "Params") -> list[str]:
    known = {*params.domains, SELF_DOMAIN}
    problems = [
        f"mixture.{name}: no such domain; domains are {', '.join(sorted(known))}"
        for name in params.mixture
        if name not in known
    ]
    problems += [
        f"mixture: domain {name} has no weight; add `{name}: 1.0`, or 0 to leave it out"
        for name in sorted(known - set(params.mixture))
    ]
    if SELF_DOMAIN in params.domains:
        problems.append(f"domains.{SELF_DOMAIN}: the name is taken by text sampled from the model")
    if params.mixture and not any(params.mixture.values()):
        problems.append("mixture: all weights are 0; at least one domain must count")
    if not math.isfinite(sum(params.mixture.values())):
        problems.append("mixture: the sum of the weights is not finite; only their ratios count, lower them")
    return problems


def _round_problems(params: "Params") -> list[str]:
    if DENSE in params.rounds:
        return [f"rounds.{DENSE}: the name stands for the unpruned model; use another"]
    problems = []
    for name, item in params.rounds.items():
        if item.after == name:
            problems.append(f"rounds.{name}.after: {name}: a round cannot follow itself")
        elif item.after != DENSE and item.after not in params.rounds:
            choices = ", ".join([DENSE, *params.rounds])
            problems.append(f"rounds.{name}.after: {item.after}: no such round; choose among {choices}")
    if params.surgery.after not in params.rounds:
        problems.append(
            f"surgery.after: {params.surgery.after}: no such round; rounds are {', '.join(params.rounds)}"
        )
    if problems:
        return problems
    chain = params.chain()
    if params.rounds[chain[0]].after != DENSE:
        return [f"rounds: {' -> '.join([*chain, chain[0]])}: a cycle; one round must follow {DENSE}"]
    unused = [name for name in params.rounds if name not in chain]
    if unused:
        problems.append(
            f"rounds: {', '.join(unused)} not on the way from {DENSE} to surgery.after: "
            f"{params.surgery.after}; every round must follow another and lead to it"
        )
        return problems
    before = 0.0
    for name in chain:
        progress = params.rounds[name].progress
        if progress <= before:
            problems.append(
                f"rounds.{name}.progress: {progress}: must be more than the {before} of the round before"
            )
        before = progress
    if before != 1.0:
        problems.append(f"rounds.{chain[-1]}.progress: {before}: the last round must reach 1.0")
    return problems


def _budget_problems(params: "Params") -> list[str]:
    problems = []
    if params.mask.metric in GRADIENT_METRICS and not params.capture.gradients:
        problems.append(
            f"mask.metric: {params.mask.metric}: needs gradients; set capture.gradients: true, "
            "or choose wanda, fluctuation, magnitude or random"
        )
    if params.surgery.reconstruct.epochs and params.surgery.heal not in ("auto", "residual"):
        problems.append(
            f"surgery.heal: {params.surgery.heal}: reconstruction starts from the residual refit; set "
            "surgery.heal: residual (with it, auto is the same), or surgery.reconstruct.epochs: 0"
        )
    there = params.corpus.calibration_sequences
    for group, used in (("capture", params.capture.sequences), ("surgery", params.surgery.sequences)):
        if used > there:
            problems.append(f"{group}.sequences: {used}: more than corpus.calibration_sequences: {there}")
    left = there - params.surgery.sequences
    if params.chooses_healing() and 0 <= left < params.surgery.choice_sequences:
        problems.append(
            f"surgery.choice_sequences: {params.surgery.choice_sequences}: surgery.sequences: "
            f"{params.surgery.sequences} leaves {left} of corpus.calibration_sequences: {there}, and heal: "
            "auto chooses by text that no refit has read; raise the last, or lower one of the others"
        )
    if params.evaluate.limit == 1 and params.benchmarks:
        problems.append("evaluate.limit: 1: a standard error needs at least 2 items; 0 takes all")
    if len(set(params.prune.sites)) != len(params.prune.sites):
        problems.append(f"prune.sites: {params.prune.sites}: a site is named twice")
    if {"attention", "query_heads"} <= set(params.prune.sites):
        problems.append(
            f"prune.sites: {params.prune.sites}: attention takes query heads with their KV group, "
            "query_heads takes them out of groups that stay; choose one of the two"
        )
    return problems


def _recovery_problems(params: "Params") -> list[str]:
    shares, own = params.recover.mixture, params.recover.own
    problems = [
        f"recover.mixture.{kind}: {getattr(shares, kind)}: recover.own.{kind}: 0 writes no such text"
        for kind in OWN_KINDS
        if getattr(shares, kind) and not getattr(own, kind)
    ]
    if not any(shares.model_dump().values()):
        problems.append("recover.mixture: all weights are 0; at least one kind of text must count")
    return problems
