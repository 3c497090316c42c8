"""The whole method in memory: rounds of measuring and choosing, then one operation.

The DVC stages are the same steps with files between them (capture, mask, surgery).
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.checkpoints.family_proof import check_proved
from secateurs.checks import checked
from secateurs.choose.round import choose
from secateurs.devices.placement import copied
from secateurs.errors import SettingError
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.heal.heal import heal
from secateurs.heal.healed import Healed
from secateurs.kinds.kind import Masks
from secateurs.kinds.sites import all_kept_masks
from secateurs.measure.capture import DomainCapture
from secateurs.measure.measure import measure
from secateurs.recover.lost_tokens import heal_tokens_by
from secateurs.settings.method import Settings
from secateurs.text.rows import Text
from secateurs.vocabulary.choose import rank_by, trim_vocabulary


@dataclass(frozen=True)
class Pruned:
    """A pruned model with what led to it.

    model: in host memory, in the dense model's dtype, in evaluation mode with frozen weights. masks: bool
    [units] by site name over the dense model's units, True = kept. history: an entry for each round, ready
    for JSON. healing: what it did. tokenizer: the model's, trimmed where `prune.vocabulary.rows` asks for it;
    None where none was given.
    """

    model: PreTrainedModel
    masks: dict[str, Tensor]
    history: list[dict[str, Any]]
    healing: Healed
    tokenizer: PreTrainedTokenizerBase | None


TakeRound = Callable[[PreTrainedModel, Masks, Text, Settings, str], dict[str, DomainCapture]]
"""As `measure`, but the dense model stays as it is."""


def take_round_of_a_copy(
    dense: PreTrainedModel, masks: Masks, text: Text, settings: Settings, round_name: str
) -> dict[str, DomainCapture]:
    """A round's statistics, taken of a copy of the dense model that is cut and then dropped."""
    return measure(copied(dense, settings.device), masks, text, settings, round_name)


def prune_model(
    model: PreTrainedModel,
    text: Text,
    settings: Settings,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    counts: Mapping[str, Mapping[int, int]] | None = None,
    on_step: Callable[[str], object] = lambda name: None,
    take_round: TakeRound = take_round_of_a_copy,
) -> Pruned:
    """Prune a dense model over several rounds and heal what is left, without training; then trim its tokens.

    model: a decoder of a supported family; it stays as it is. text: calibration text
    (text.calibration.pack_text makes it of strings). tokenizer: the model's, which `prune.vocabulary.rows`
    needs; it stays as it is. counts: of each token id by domain, by which tokens go (ranking.count_tokens);
    of the text if None. `on_step` is called with the name of each round, and with "surgery", before it
    begins. `take_round` may keep what it measures and give it again, where several prunings have rounds in
    common. Host memory holds the model three times over during a round.

    Raises InputError for settings out of their range, text that is not the model's, a family, a budget,
    widths or a vocabulary that cannot be pruned, rows without a tokenizer, and activations that are not
    finite.
    """
    rows = settings.prune.vocabulary.rows
    if rows and tokenizer is None:
        raise SettingError(
            f"prune.vocabulary.rows: {rows}: the tokenizer must be trimmed with the model; give it to "
            "prune_model as `tokenizer`"
        )
    if settings.capture.layers == "streamed":
        raise SettingError(
            "capture.layers: streamed: reads layers from a checkpoint, and prune_model has the model in "
            "memory; use resident, or measure.streamed.measure_streamed"
        )
    # Parts of the dialogues are domains of the text; in counts they may be one.
    named, settings = settings.mixture, checked(settings, text, vocabulary=_vocabulary(model))
    kept: list[int] = []
    if rows and tokenizer is not None:
        counts, mixture = text.counts() if counts is None else counts, {**named, **settings.mixture}
        kept = rank_by(model, tokenizer, counts, mixture, settings.prune.vocabulary).kept(rows)
    for name in settings.prune.sites:
        check_proved(model.config, name)
    # Rounds chain through masks, not models: the copy that a round measures is dropped afterwards.
    dense = open_experts(_in_host_memory(copy.deepcopy(model)))
    masks: dict[str, Tensor] = all_kept_masks(dense)
    scores: dict[str, Tensor] = {}
    history, weights = [], dict(settings.mixture)
    for round_name in settings.rounds:
        on_step(round_name)
        captures = take_round(dense, masks, text, settings, round_name)
        choice = choose(dense, captures, masks, scores, weights, settings, round_name)
        masks, scores, weights = choice.masks, choice.scores, choice.weights
        history.append(choice.history)
    on_step("surgery")
    healing = heal(dense, masks, text, settings.changed(mixture=weights))
    small = close_experts(dense)
    if kept and tokenizer is not None:
        # Last, because healing reads ids of the whole vocabulary.
        tokenizer, whole = trim_vocabulary(small, tokenizer, kept), tokenizer
        tokens = heal_tokens_by(small, model, (whole, tokenizer), text, settings.changed(mixture=weights))
        healing = replace(healing, tokens=tokens)
    return Pruned(small, masks, history, healing, tokenizer)


def _in_host_memory(model: PreTrainedModel) -> PreTrainedModel:
    """The model in evaluation mode with frozen weights, on the CPU: captures and surgery want it there."""
    moved: Any = model  # transformers' types leave out the argument of `to`
    ready: PreTrainedModel = moved.to("cpu").eval().requires_grad_(False)
    return ready


def _vocabulary(model: PreTrainedModel) -> int:
    embeddings: Any = model.get_input_embeddings()  # transformers' types leave out that these have a weight
    return len(embeddings.weight)
