"""What the method refuses before it begins: settings and text that nobody can mean."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

import torch

from secateurs.choose.weight_bytes import PRECISIONS
from secateurs.devices.placement import resolve_device
from secateurs.errors import InputError
from secateurs.heal.methods import METHODS
from secateurs.kinds.registry import NAMES, exclusions, kinds
from secateurs.settings.groups import GRADIENT_METRICS, TARGETS
from secateurs.settings.method import Budget, Settings, Surgery
from secateurs.text.portions import choice_text
from secateurs.text.rows import Text


def checked(settings: Settings, text: Text, vocabulary: int) -> Settings:
    """The settings with a weight for every domain of the text, 1 each where they name none.

    vocabulary: the number of token ids that the model knows. Raises InputError with a line for each value
    that is out of its range, and for text that is not the model's.
    """
    problems = [
        *_text_problems(text, vocabulary),
        *_answers_problems(text),
        *_mixture_problems(settings.mixture, text),
    ]
    problems += [
        *_budget_problems(settings.budget),
        *_round_problems(settings.rounds),
        *_metric_problems(settings),
        *_surgery_problems(settings.surgery),
        *_device_problems(settings.device),
    ]
    if problems:
        raise InputError("\n".join(problems))
    settings = replace(settings, mixture=settings.mixture or dict.fromkeys(text.ids, 1.0))
    if settings.surgery.healing.method == "auto":
        # Too little text is refused here rather than after all rounds.
        choice_text(text, settings)
    return settings


def _text_problems(text: Text, vocabulary: int) -> Iterator[str]:
    if not text.ids:
        yield "text: has no domain; give it at least one"
    for domain, ids in text.ids.items():
        if ids.dim() != 2 or ids.dtype != torch.int64 or not ids.numel():
            yield (
                f"text: {domain}: {ids.dtype} {list(ids.shape)}: must be int64 [sequences, tokens]; "
                "text.calibration.pack_text makes it of strings"
            )
        elif not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
            yield (
                f"text: {domain}: has token ids from {int(ids.min())} to {int(ids.max())}, but the model has "
                f"{vocabulary}; pack the text with the model's own tokenizer"
            )


def _answers_problems(text: Text) -> Iterator[str]:
    for domain, answers in text.answers.items():
        ids = text.ids.get(domain)
        if ids is None or answers.dtype != torch.bool or answers.shape != ids.shape:
            shape = "no ids" if ids is None else f"ids {list(ids.shape)}"
            yield (
                f"text: answers: {domain}: {answers.dtype} {list(answers.shape)} for {shape}: must be "
                "bool, in the shape of the domain's ids"
            )
        elif not bool(answers[:, 1:].any()):
            yield f"text: answers: {domain}: has no token of an answer; leave the domain out of `answers`"


def _mixture_problems(mixture: Mapping[str, float], text: Text) -> Iterator[str]:
    if not mixture:
        return
    for domain in sorted({name for name, weight in mixture.items() if weight} - set(text.ids)):
        yield f"settings: mixture: {domain}: has no text; its domains are {', '.join(text.ids)}"
    for domain in sorted(set(text.ids) - set(mixture)):
        yield f"settings: mixture: {domain}: has text but no weight; 0 leaves the domain out"
    if any(weight < 0 for weight in mixture.values()) or not any(mixture.values()):
        yield f"settings: mixture: {dict(mixture)}: weights must be 0 or more, and one of them above 0"


def _budget_problems(budget: Budget) -> Iterator[str]:
    targets = [name for name in TARGETS if getattr(budget, name) is not None]
    if len(targets) != 1:
        given = ", ".join(f"{name}={getattr(budget, name)}" for name in targets) or "none"
        yield f"settings: budget: {given}: give exactly one of {', '.join(TARGETS)}; the others are None"
    for name, value in (("sparsity", budget.sparsity), ("floor", budget.floor)):
        if value is not None and not 0 < value < 1:
            yield f"settings: budget.{name}: {value}: must be above 0 and below 1"
    if budget.parameters is not None and budget.parameters < 1:
        yield f"settings: budget.parameters: {budget.parameters}: must be 1 or more"
    if budget.memory is not None and budget.memory.bytes < 1:
        yield f"settings: budget.memory.bytes: {budget.memory.bytes}: must be 1 or more"
    if budget.memory is not None and budget.memory.precision not in PRECISIONS:
        named = budget.memory.precision
        yield f"settings: budget.memory.precision: {named}: must be one of {', '.join(PRECISIONS)}"
    if budget.widths not in ("uniform", "per_layer"):
        yield f"settings: budget.widths: {budget.widths}: must be uniform or per_layer"
    if budget.width_multiple < 1:
        yield f"settings: budget.width_multiple: {budget.width_multiple}: must be 1 or more"
    if not budget.sites or set(budget.sites) - set(NAMES) or len(set(budget.sites)) < len(budget.sites):
        yield f"settings: budget.sites: {budget.sites}: must be some of {', '.join(NAMES)}, each once"
    for reason in exclusions(budget.sites):
        yield f"settings: budget.sites: {budget.sites}: {reason}"


def _round_problems(rounds: Mapping[str, float]) -> Iterator[str]:
    reached = [0.0, *rounds.values()]
    rising = all(before < after for before, after in pairwise(reached))
    if not rising or reached[-1] != 1.0:
        yield f"settings: rounds: {dict(rounds)}: the shares must rise from above 0 to 1.0"


def _metric_problems(settings: Settings) -> Iterator[str]:
    for kind in (kinds()[name] for name in settings.budget.sites if name in NAMES):
        if settings.metric not in kind.metrics:
            yield f"settings: metric: {settings.metric}: must be one of {', '.join(kind.metrics)}"
    if settings.metric in GRADIENT_METRICS and not settings.capture.gradients:
        yield f"settings: capture.gradients: False: {settings.metric} needs them; use True or another metric"
    for name in ("sequences", "batch_size"):
        value = getattr(settings.capture, name)
        if value < 1:
            yield f"settings: capture.{name}: {value}: must be 1 or more"


def _surgery_problems(surgery: Surgery) -> Iterator[str]:
    healing, training = surgery.healing, surgery.healing.reconstruction
    methods = ("none", *METHODS, "auto")
    if healing.method not in methods:
        yield f"settings: surgery.healing.method: {healing.method}: must be one of {', '.join(methods)}"
    if not 0 <= healing.alpha <= 1:
        yield f"settings: surgery.healing.alpha: {healing.alpha}: must be between 0 and 1"
    if not healing.ridge > 0:
        yield f"settings: surgery.healing.ridge: {healing.ridge}: must be above 0"
    for name in ("sequences", "choice_sequences", "batch_size"):
        value = getattr(surgery, name)
        if value < 1:
            yield f"settings: surgery.{name}: {value}: must be 1 or more"
    if training is not None and healing.method != "residual":
        yield "settings: surgery.healing.reconstruction: starts from the method residual; use it, or None"
    if training is not None and not min(training.epochs, training.batch_size, training.learning_rate) > 0:
        yield f"settings: surgery.healing.reconstruction: {training}: its values must be above 0"


def _device_problems(device: str) -> Iterator[str]:
    try:
        resolve_device(device)
    except InputError as error:
        yield str(error)
    except RuntimeError:
        yield f"settings: device: {device}: must be auto, cpu, cuda, cuda:N, mps or sharded"
