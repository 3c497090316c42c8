"""The checks of params.yaml that span its groups: each yields what is wrong, as `key: value: remedy`."""

import math
from collections.abc import Collection, Iterator, Mapping

from stages.common.schema.groups import (
    GRADIENT_METRICS,
    Capture,
    Corpus,
    Evaluate,
    Mask,
    Prune,
    Recover,
    Round,
    Surgery,
)

SELF_DOMAIN = "self"
# What a recovery adds, by its key under `recover`. No domain of params.yaml has a space in its name.
OWN_KINDS = {"plain": "own text", "dialogues": "own dialogues"}
DENSE = "dense"


def chain_of(rounds: Mapping[str, Round], last: str) -> list[str]:
    """The rounds from the first to `last`; stops where a cycle would begin."""
    names: list[str] = []
    while last != DENSE and last not in names:
        names.append(last)
        last = rounds[last].after
    return names[::-1]


def tries_healing(surgery: Surgery) -> bool:
    """Whether surgery tries several ways of healing; reconstruction starts from the residual refit."""
    return surgery.heal == "auto" and not surgery.reconstruct.epochs


def mixture_problems(domains: Collection[str], mixture: Mapping[str, float]) -> Iterator[str]:
    """A weight for each domain, and for nothing else."""
    known = {*domains, SELF_DOMAIN}
    for name in mixture:
        if name not in known:
            yield f"mixture.{name}: no such domain; domains are {', '.join(sorted(known))}"
    for name in sorted(known - set(mixture)):
        yield f"mixture: domain {name} has no weight; add `{name}: 1.0`, or 0 to leave it out"
    if SELF_DOMAIN in domains:
        yield f"domains.{SELF_DOMAIN}: the name is taken by text sampled from the model"
    if mixture and not any(mixture.values()):
        yield "mixture: all weights are 0; at least one domain must count"
    if not math.isfinite(sum(mixture.values())):
        yield "mixture: the sum of the weights is not finite; only their ratios count, lower them"


def round_problems(rounds: Mapping[str, Round], last: str) -> Iterator[str]:
    """One chain of rounds from the dense model to `last`, that of `surgery.after`, removing more and more."""
    if DENSE in rounds:
        yield f"rounds.{DENSE}: the name stands for the unpruned model; use another"
        return
    unknown = False
    for name, item in rounds.items():
        if item.after == name:
            yield f"rounds.{name}.after: {name}: a round cannot follow itself"
        elif item.after != DENSE and item.after not in rounds:
            choices = ", ".join([DENSE, *rounds])
            yield f"rounds.{name}.after: {item.after}: no such round; choose among {choices}"
        else:
            continue
        unknown = True
    if last not in rounds:
        yield f"surgery.after: {last}: no such round; rounds are {', '.join(rounds)}"
        unknown = True
    if not unknown:
        yield from _chain_problems(rounds, chain_of(rounds, last), last)


def _chain_problems(rounds: Mapping[str, Round], chain: list[str], last: str) -> Iterator[str]:
    if rounds[chain[0]].after != DENSE:
        yield f"rounds: {' -> '.join([*chain, chain[0]])}: a cycle; one round must follow {DENSE}"
        return
    unused = [name for name in rounds if name not in chain]
    if unused:
        yield (
            f"rounds: {', '.join(unused)} not on the way from {DENSE} to surgery.after: {last}; every round "
            "must follow another and lead to it"
        )
        return
    before = 0.0
    for name in chain:
        progress = rounds[name].progress
        if progress <= before:
            yield f"rounds.{name}.progress: {progress}: must be more than the {before} of the round before"
        before = progress
    if before != 1.0:
        yield f"rounds.{chain[-1]}.progress: {before}: the last round must reach 1.0"


def measure_problems(
    mask: Mask, capture: Capture, prune: Prune, evaluate: Evaluate, tasks: int
) -> Iterator[str]:
    """Scores from what is captured, sites that can go together, and errors of accuracies."""
    if mask.metric in GRADIENT_METRICS and not capture.gradients:
        yield (
            f"mask.metric: {mask.metric}: needs gradients; set capture.gradients: true, "
            "or choose wanda, fluctuation, magnitude or random"
        )
    if evaluate.limit == 1 and tasks:
        yield "evaluate.limit: 1: a standard error needs at least 2 items; 0 takes all"
    if len(set(prune.sites)) != len(prune.sites):
        yield f"prune.sites: {prune.sites}: a site is named twice"
    if {"attention", "query_heads"} <= set(prune.sites):
        yield (
            f"prune.sites: {prune.sites}: attention takes query heads with their KV group, "
            "query_heads takes them out of groups that stay; choose one of the two"
        )


def healing_problems(surgery: Surgery, capture: Capture, corpus: Corpus) -> Iterator[str]:
    """Ways of healing that go together, and calibration text enough for them."""
    if surgery.reconstruct.epochs and surgery.heal not in ("auto", "residual"):
        yield (
            f"surgery.heal: {surgery.heal}: reconstruction starts from the residual refit; set "
            "surgery.heal: residual (with it, auto is the same), or surgery.reconstruct.epochs: 0"
        )
    there = corpus.calibration_sequences
    for group, used in (("capture", capture.sequences), ("surgery", surgery.sequences)):
        if used > there:
            yield f"{group}.sequences: {used}: more than corpus.calibration_sequences: {there}"
    left = there - surgery.sequences
    if tries_healing(surgery) and 0 <= left < surgery.choice_sequences:
        yield (
            f"surgery.choice_sequences: {surgery.choice_sequences}: surgery.sequences: {surgery.sequences} "
            f"leaves {left} of corpus.calibration_sequences: {there}, and heal: auto chooses by text that no "
            "refit has read; raise the last, or lower one of the others"
        )


def recovery_problems(recover: Recover) -> Iterator[str]:
    """Text for each kind that counts."""
    shares, own = recover.mixture, recover.own
    for kind in OWN_KINDS:
        if getattr(shares, kind) and not getattr(own, kind):
            share = getattr(shares, kind)
            yield f"recover.mixture.{kind}: {share}: recover.own.{kind}: 0 writes no such text"
    if not any(shares.model_dump().values()):
        yield "recover.mixture: all weights are 0; at least one kind of text must count"
