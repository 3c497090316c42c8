"""The checks of params.yaml that span its groups: each yields what is wrong, as `key: value: remedy`."""

import math
from collections.abc import Collection, Iterator, Mapping

from secateurs.settings.groups import Compute, Corpus, Evaluate, Sample
from secateurs.settings.pruning import AUTO, Capture, Mask, Prune, Surgery
from secateurs.settings.recovery import OwnText
from secateurs.settings.sources import DIALOGUE_DOMAIN, GENERATED, SELF_DOMAIN

# DVC leaves entries of these names, at any depth, out of what it knows an earlier run by: a change of one
# would bring back what another value made.
OVERLOOKED = ("size", "nfiles")


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
    for name in OVERLOOKED:
        if name in domains:
            yield f"domains.{name}: DVC would overlook a change of its weight; give it another name"
    if mixture and not any(mixture.values()):
        yield "mixture: all weights are 0; at least one domain must count"
    if not math.isfinite(sum(mixture.values())):
        yield "mixture: the sum of the weights is not finite; only their ratios count, lower them"


def evaluation_problems(evaluate: Evaluate, tasks: int) -> Iterator[str]:
    """Items enough for a standard error."""
    if evaluate.limit == 1 and tasks:
        yield "evaluate.limit: 1: a standard error needs at least 2 items; 0 takes all"


def left_out_problems(mask: Mask, compute: Compute) -> Iterator[str]:
    """A look at what was lost needs the dense model and then the cut one on one device."""
    if mask.left_out and compute.device == "sharded":
        yield (
            f"mask.left_out: {mask.left_out}: compute.device: sharded: what was lost is taken on one device; "
            "use auto, or mask.left_out: 0"
        )


def text_problems(surgery: Surgery, capture: Capture, corpus: Corpus, mask: Mask) -> Iterator[str]:
    """Calibration text enough for what reads it."""
    there = corpus.calibration_sequences
    for group, used in (("capture", capture.sequences), ("surgery", surgery.sequences)):
        if used > there:
            yield f"{group}.sequences: {used}: more than corpus.calibration_sequences: {there}"
    left = there - surgery.sequences
    if mask.left_out > left:
        yield (
            f"mask.left_out: {mask.left_out}: surgery.sequences: {surgery.sequences} leaves {left} of "
            f"corpus.calibration_sequences: {there}, and what was lost is taken on text that no refit has "
            "read; raise the last, or lower one of the others"
        )
    if surgery.chooses and 0 <= left < surgery.choice_sequences:
        what = "heal: auto chooses" if surgery.method == "auto" else "surgery.tokens is judged"
        yield (
            f"surgery.choice_sequences: {surgery.choice_sequences}: surgery.sequences: {surgery.sequences} "
            f"leaves {left} of corpus.calibration_sequences: {there}, and {what} by text that no "
            "refit has read; raise the last, or lower one of the others"
        )


def trial_problems(prune: Prune, surgery: Surgery, capture: Capture, corpus: Corpus) -> Iterator[str]:
    """What the trials of `sites: auto` need: the model in memory, and text enough, also to judge them by."""
    if prune.sites != AUTO:
        return
    if capture.layers == "streamed":
        yield (
            "capture.layers: streamed: prune.sites: auto: trials have the whole model in memory; name the "
            "kinds that go, or set capture.layers: resident"
        )
    auto, there = prune.auto, corpus.calibration_sequences
    healed = min(auto.sequences, surgery.sequences)
    chosen = surgery.choice_sequences if surgery.method == "auto" else 0
    if max(capture.sequences, healed + chosen) + auto.left_out > there:
        yield (
            f"prune.auto.left_out: {auto.left_out}: of corpus.calibration_sequences: {there} a trial reads "
            f"{max(capture.sequences, healed + chosen)}, and is judged by text that it has not read; raise "
            "that number, or lower prune.auto.sequences or prune.auto.left_out"
        )


def sample_problems(sample: Sample, corpus: Corpus, mixture: Mapping[str, float]) -> Iterator[str]:
    """Text of the model's own enough for its calibration sequences, before it is sampled for minutes."""
    # A text has a beginning and an end token besides.
    most = sample.documents * (sample.tokens + 2)
    wanted = corpus.calibration_sequences * corpus.sequence_length
    if mixture.get(SELF_DOMAIN) and most < wanted:
        yield (
            f"sample.documents: {sample.documents}: texts of sample.tokens: {sample.tokens} have at most "
            f"{most} tokens, and corpus.calibration_sequences: {corpus.calibration_sequences} of "
            f"corpus.sequence_length: {corpus.sequence_length} need {wanted}; raise one of the first two, or "
            "lower one of the others"
        )


# vLLM refuses hotter temperatures, and takes colder ones as the lower of these.
_COLDEST, _HOTTEST = 0.01, 2.0


def engine_problems(sample: Sample, own: OwnText, compute: Compute) -> Iterator[str]:
    """What vLLM would do in another way than asked for."""
    if sample.engine != "vllm":
        return
    asked = sample.dialogues
    temperatures = {
        "sample.temperature": sample.temperature,
        "sample.dialogues.opening.temperature": asked.opening.temperature,
        "sample.dialogues.question.temperature": asked.question.temperature,
        "sample.dialogues.answer.temperature": asked.answer.temperature,
        "recover.own.temperature": own.temperature,
    }
    for key, temperature in temperatures.items():
        if not _COLDEST <= temperature <= _HOTTEST:
            yield (
                f"{key}: {temperature}: sample.engine: vllm draws at {_COLDEST} to {_HOTTEST}; change it, or "
                "set the engine to ours"
            )
    if compute.device in ("sharded", "mps"):
        yield (
            f"compute.device: {compute.device}: sample.engine: vllm writes on one CUDA device or the CPU; "
            "name one of these, or set the engine to ours"
        )


# Tokens that a chat template puts around a question and its answer, at most.
_AROUND = 200


def dialogue_problems(sample: Sample, corpus: Corpus, mixture: Mapping[str, float]) -> Iterator[str]:
    """Dialogues enough for as many calibration sequences as of all other domains, before they are written."""
    if not mixture.get(DIALOGUE_DOMAIN):
        return
    asked = sample.dialogues
    others = sum(1 for name, weight in mixture.items() if name not in GENERATED or weight) - 1
    most = asked.count * (asked.question.tokens + asked.answer.tokens + _AROUND)
    wanted = others * corpus.calibration_sequences * corpus.sequence_length
    if most < wanted:
        yield (
            f"sample.dialogues.count: {asked.count}: dialogues of question.tokens: {asked.question.tokens} "
            f"and answer.tokens: {asked.answer.tokens} have, with their template, at most {most} tokens, and "
            f"as many are read as of all {others} other domains, for which "
            f"corpus.calibration_sequences: {corpus.calibration_sequences} of corpus.sequence_length: "
            f"{corpus.sequence_length} need {wanted}; raise one of the first three, or lower one of the "
            "others"
        )
