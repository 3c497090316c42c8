"""Which part of the calibration text each step reads."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from secateurs.errors import InputError
from secateurs.settings.method import Settings
from secateurs.text.documents import Sequence as Row
from secateurs.text.rows import Text


def round_text(text: Text, settings: Settings, round_name: str) -> Text:
    """The sequences that a round's capture reads: each round takes the next ones, wrapping around.

    Scores add up over the rounds, so no sequence is read twice while there are others. Those on which a round
    looks at what was lost are not among them.
    """
    turn = list(settings.rounds).index(round_name)

    def chosen(domain: str, rows: Tensor) -> Tensor:
        count = settings.capture.sequences * text.times(domain)
        there = len(rows) - settings.mask.left_out * text.times(domain)
        return rows[torch.arange(turn * count, (turn + 1) * count) % there]

    return Text(
        {domain: chosen(domain, rows) for domain, rows in text.ids.items()},
        {domain: chosen(domain, rows) for domain, rows in text.answers.items()},
    )


def left_out_text(text: Text, count: int) -> Text:
    """The last sequences of each domain, on which is taken what was lost; count: as settings ask of each."""
    return _parts(text, lambda domain: slice(-count * text.times(domain), None))


def left_out_documents(rows: Iterable[Row], text: Text, count: int) -> set[tuple[str, str]]:
    """Domain and id of the documents in what left_out_text leaves out; rows: what the text is made of."""
    own: dict[str, list[Row]] = {}
    for row in rows:
        own.setdefault(row.domain, []).append(row)
    return {
        (domain, document)
        for domain, found in own.items()
        for row in found[-count * text.times(domain) :]
        for document in row.documents
    }


def without_left_out(text: Text, count: int) -> Text:
    """What left_out_text leaves. Raises InputError for a domain of which that is nothing."""
    rest = _parts(text, lambda domain: slice(None, -count * text.times(domain)))
    for domain, ids in rest.ids.items():
        if not len(ids):
            raise InputError(
                f"text: {domain}: has {len(text.ids[domain])} sequences, of which "
                f"{count * text.times(domain)} are left out; give it more"
            )
    return rest


def _parts(text: Text, rows_of: Callable[[str], slice]) -> Text:
    return Text(
        {domain: rows[rows_of(domain)] for domain, rows in text.ids.items()},
        {domain: rows[rows_of(domain)] for domain, rows in text.answers.items()},
    )


def healing_text(text: Text, settings: Settings) -> dict[str, Tensor]:
    """The sequences that healing reads: the first ones of each domain that counts.

    A domain of weight 0 is left out rather than multiplied by 0, because it would only cost time.
    """
    return {
        domain: ids[torch.arange(settings.surgery.sequences * text.times(domain)) % len(ids)]
        for domain, ids in text.ids.items()
        if settings.mixture[domain] > 0
    }


def choice_text(text: Text, settings: Settings) -> dict[str, Tensor]:
    """The sequences that the choice between ways of healing reads: those after healing_text's.

    Raises InputError for a domain with too few of them, because what healing read says nothing here.
    """
    healed, count = settings.surgery.sequences, settings.surgery.choice_sequences
    chosen = {
        domain: ids[healed * text.times(domain) :][: count * text.times(domain)]
        for domain, ids in text.ids.items()
        if settings.mixture[domain] > 0
    }
    auto = settings.surgery.method == "auto"
    way = "surgery.heal: residual or least_squares" if auto else "surgery.tokens.steps: 0"
    for domain, ids in chosen.items():
        if len(ids) < count * text.times(domain):
            raise InputError(
                f"surgery.choice_sequences: {count}: domain {domain} has {len(text.ids[domain])} calibration "
                f"sequences, of which healing reads {healed * text.times(domain)}; give it more, lower one "
                f"of the two, or set {way}"
            )
    return chosen


def token_weights(text: Text, settings: Settings) -> dict[str, float]:
    """How much one token of each domain counts in healing: mixture_d / times_d.

    A domain that is read several times as long then counts as its weight says, and no more.
    """
    return {domain: settings.mixture[domain] / text.times(domain) for domain in text.ids}
