"""Which part of the calibration text each step reads."""

from collections.abc import Mapping

import torch
from torch import Tensor

from stages.common.errors import InputError
from stages.method.settings import Settings

Text = Mapping[str, Tensor]
"""Domain -> token ids, int64 [sequences, tokens]."""


def round_text(text: Text, settings: Settings, round_name: str) -> dict[str, Tensor]:
    """The sequences that a round's capture reads: each round takes the next ones, wrapping around.

    Scores add up over the rounds, so no sequence is read twice while there are others.
    """
    count = settings.capture.sequences
    turn = list(settings.rounds).index(round_name)
    return {
        domain: ids[torch.arange(turn * count, (turn + 1) * count) % len(ids)] for domain, ids in text.items()
    }


def healing_text(text: Text, settings: Settings) -> dict[str, Tensor]:
    """The sequences that healing reads: the first ones of each domain that counts.

    A domain of weight 0 is left out rather than multiplied by 0, because it would only cost time.
    """
    count = settings.surgery.sequences
    return {
        domain: ids[torch.arange(count) % len(ids)]
        for domain, ids in text.items()
        if settings.mixture[domain] > 0
    }


def choice_text(text: Text, settings: Settings) -> dict[str, Tensor]:
    """The sequences that the choice between ways of healing reads: those after healing_text's.

    Raises InputError for a domain with too few of them, because what healing read says nothing here.
    """
    healed, count = settings.surgery.sequences, settings.surgery.choice_sequences
    chosen = {
        domain: ids[healed : healed + count] for domain, ids in text.items() if settings.mixture[domain] > 0
    }
    for domain, ids in chosen.items():
        if len(ids) < count:
            raise InputError(
                f"surgery.choice_sequences: {count}: domain {domain} has {len(text[domain])} calibration "
                f"sequences, of which healing reads {healed}; give it more, lower one of the two, or set "
                "surgery.heal: residual or least_squares"
            )
    return chosen
