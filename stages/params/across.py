"""The checks of params.yaml that span its groups: each yields what is wrong, as `key: value: remedy`."""

import math
from collections.abc import Collection, Iterator, Mapping

from secateurs.settings.groups import Corpus, Evaluate
from secateurs.settings.pruning import Capture, Surgery
from secateurs.settings.sources import GENERATED


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


def evaluation_problems(evaluate: Evaluate, tasks: int) -> Iterator[str]:
    """Items enough for a standard error."""
    if evaluate.limit == 1 and tasks:
        yield "evaluate.limit: 1: a standard error needs at least 2 items; 0 takes all"


def text_problems(surgery: Surgery, capture: Capture, corpus: Corpus) -> Iterator[str]:
    """Calibration text enough for what reads it."""
    there = corpus.calibration_sequences
    for group, used in (("capture", capture.sequences), ("surgery", surgery.sequences)):
        if used > there:
            yield f"{group}.sequences: {used}: more than corpus.calibration_sequences: {there}"
    left = there - surgery.sequences
    if surgery.method == "auto" and 0 <= left < surgery.choice_sequences:
        yield (
            f"surgery.choice_sequences: {surgery.choice_sequences}: surgery.sequences: {surgery.sequences} "
            f"leaves {left} of corpus.calibration_sequences: {there}, and heal: auto chooses by text that no "
            "refit has read; raise the last, or lower one of the others"
        )
