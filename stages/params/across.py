"""The checks of params.yaml that span its groups: each yields what is wrong, as `key: value: remedy`."""

import math
from collections.abc import Collection, Iterator, Mapping

from secateurs.settings.groups import (
    GRADIENT_METRICS,
    Capture,
    Corpus,
    Evaluate,
    Mask,
    Surgery,
)
from secateurs.settings.sources import GENERATED


def tries_healing(surgery: Surgery) -> bool:
    """Whether surgery tries several ways of healing; reconstruction starts from the residual refit."""
    return surgery.heal == "auto" and not surgery.reconstruct.epochs


def mixture_problems(domains: Collection[str], mixture: Mapping[str, float]) -> Iterator[str]:
    """A weight for each domain, and for nothing else."""
    known = {*domains, *GENERATED}
    for name in mixture:
        if name not in known:
            yield f"mixture.{name}: no such domain; domains are {', '.join(sorted(known))}"
    for name in sorted(known - set(mixture)):
        yield f"mixture: domain {name} has no weight; add `{name}: 1.0`, or 0 to leave it out"
    for name in GENERATED:
        if name in domains:
            yield f"domains.{name}: the name is taken by text sampled from the model"
    if mixture and not any(mixture.values()):
        yield "mixture: all weights are 0; at least one domain must count"
    if not math.isfinite(sum(mixture.values())):
        yield "mixture: the sum of the weights is not finite; only their ratios count, lower them"


def measure_problems(mask: Mask, capture: Capture, evaluate: Evaluate, tasks: int) -> Iterator[str]:
    """Scores from what is captured, and items enough for a standard error."""
    if mask.metric in GRADIENT_METRICS and not capture.gradients:
        yield (
            f"mask.metric: {mask.metric}: needs gradients; set capture.gradients: true, "
            "or choose wanda, fluctuation, magnitude or random"
        )
    if evaluate.limit == 1 and tasks:
        yield "evaluate.limit: 1: a standard error needs at least 2 items; 0 takes all"


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
