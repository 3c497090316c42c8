"""What the method refuses before it begins: settings and text that nobody can mean."""

from collections.abc import Iterator, Mapping

import torch

from secateurs.devices.placement import SHARDED, resolve_device
from secateurs.errors import InputError, SettingError
from secateurs.kinds.registry import kinds
from secateurs.settings.method import Settings
from secateurs.settings.pruning import AUTO
from secateurs.text.parts import spread
from secateurs.text.portions import choice_text
from secateurs.text.rows import Text


def checked(settings: Settings, text: Text, vocabulary: int) -> Settings:
    """The settings with a weight for every domain of the text, 1 each where they name none.

    vocabulary: the number of token ids that the model knows. Raises InputError with a line for each value
    that is out of its range, and for text that is not the model's.
    """
    if not isinstance(text, Text):
        raise InputError(
            f"text: a {type(text).__name__}: must be a Text; text.calibration.pack_text makes it of strings"
        )
    if settings.prune.sites == AUTO:
        raise SettingError(
            "prune.sites: auto: prune_model takes kinds by name; call choose_kinds of "
            "secateurs.kind_trials, and put what its `settled` returns in the place of the settings' `prune`"
        )
    problems = [*_text_problems(text, vocabulary), *_answers_problems(text)]
    if not problems:
        mixture = spread(settings.mixture, {domain: text.times(domain) for domain in text.ids})
        settings = settings.changed(mixture=mixture)
        problems += [*_mixture_problems(mixture, text), *_left_out_problems(settings, text)]
    problems += [*_metric_problems(settings), *_device_problems(settings.device)]
    if problems:
        raise InputError("\n".join(problems))
    settings = settings.changed(mixture=settings.mixture or dict.fromkeys(text.ids, 1.0))
    if settings.surgery.chooses:
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
        yield f"mixture: {domain}: has no text; its domains are {', '.join(text.ids)}"
    for domain in sorted(set(text.ids) - set(mixture)):
        yield f"mixture: {domain}: has text but no weight; 0 leaves the domain out"
    if any(weight < 0 for weight in mixture.values()) or not any(mixture.values()):
        yield f"mixture: {dict(mixture)}: weights must be 0 or more, and one of them above 0"


def _left_out_problems(settings: Settings, text: Text) -> Iterator[str]:
    left_out, healed = settings.mask.left_out, settings.surgery.sequences
    fewer = [
        domain for domain, ids in text.ids.items() if len(ids) < (healed + left_out) * text.times(domain)
    ]
    if left_out and fewer:
        yield (
            f"mask.left_out: {left_out}: healing reads surgery.sequences: {healed}, which leaves fewer of "
            f"{', '.join(fewer)}; give more text, or lower one of the two"
        )
    if left_out and settings.device == SHARDED:
        yield (
            f"mask.left_out: {left_out}: compute.device: {SHARDED}: what was lost is taken on one device; "
            "use auto, or mask.left_out: 0"
        )


def _metric_problems(settings: Settings) -> Iterator[str]:
    for kind in (kinds()[name] for name in settings.prune.sites):
        if settings.mask.metric not in kind.metrics:
            yield (
                f"mask.metric: {settings.mask.metric}: {kind.unit} have no such score; "
                f"choose one of {', '.join(kind.metrics)}"
            )


def _device_problems(device: str) -> Iterator[str]:
    try:
        resolve_device(device)
    except InputError as error:
        yield str(error)
    except RuntimeError:
        yield f"compute.device: {device}: must be auto, cpu, cuda, cuda:N, mps or sharded"
