"""Calibration text as the method takes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Text:
    """Token ids by domain, and which of them are answers where a domain is the model's own dialogues.

    ids: int64 [sequences, tokens] by domain. answers: bool of the same shape for domains of dialogues, True
    for the tokens of answers: their loss alone scores channels. Of such a domain as many sequences are read
    as of all others together.
    """

    ids: Mapping[str, Tensor]
    answers: Mapping[str, Tensor] = field(default_factory=dict)

    def times(self, domain: str) -> int:
        """How many sequences of a domain are read for each one that the settings ask of every domain."""
        return times(domain in self.answers, len(self.ids) - len(self.answers))


def times(dialogues: bool, others: int) -> int:
    """Of dialogues, a sequence for each one of the `others`; of any other domain one."""
    return max(1, others) if dialogues else 1
