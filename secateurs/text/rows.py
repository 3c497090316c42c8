"""Calibration text as the method takes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

# For its type alone: the plan, which counts sequences, is there before torch is.
if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Text:
    """Token ids by domain, and which of them are answers where a domain is the model's own dialogues.

    ids: int64 [sequences, tokens] by domain. answers: bool of the same shape for domains of dialogues, True
    for the tokens of answers: their loss alone scores channels. Of such domains as many sequences are read
    as of all others together, of each its part of all that there are.
    """

    ids: Mapping[str, Tensor]
    answers: Mapping[str, Tensor] = field(default_factory=dict)

    def counts(self) -> dict[str, Counter[int]]:
        """How often each token id stands in the sequences of each domain."""
        return {name: Counter(ids.flatten().tolist()) for name, ids in self.ids.items()}

    def times(self, domain: str) -> int:
        """How many sequences of a domain are read for each one that the settings ask of every domain."""
        if domain not in self.answers:
            return 1
        there = {name: len(self.ids[name]) for name in self.answers}
        return times(there[domain] / sum(there.values()), len(self.ids) - len(self.answers))


def times(part: float, others: int) -> int:
    """How many sequences of a part of the dialogues are read for each one of another domain; at least one.

    All dialogues together are read as often as all `others` are; a part of them, in proportion to its size.
    """
    return max(1, round(part * others))
