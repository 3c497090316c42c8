"""What a pruning reads, as its estimates need it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from secateurs.settings.method import Settings


@dataclass(frozen=True)
class Reading:
    """Text of a pruning, and the dtype that it computes in.

    domains: how many sequences of each domain are read for each one that the settings ask of every domain.
    tokens: of a sequence. dtype: its name, float32 or bfloat16.
    """

    domains: Mapping[str, int]
    tokens: int
    dtype: str

    @property
    def bytes_each(self) -> int:
        """Bytes of a number."""
        return torch.finfo(getattr(torch, self.dtype)).bits // 8

    def captured(self, settings: Settings) -> int:
        """Tokens that a round reads."""
        return sum(self.domains.values()) * settings.capture.sequences * self.tokens

    def left_out(self, settings: Settings) -> int:
        """Tokens that judge a trial of `prune.sites: auto`."""
        return sum(self.domains.values()) * settings.prune.auto.left_out * self.tokens

    def healed_by(self, settings: Settings) -> int:
        """Tokens that healing reads: of the domains that count."""
        none = settings.surgery.heal == "none"
        return 0 if none else self._counted(settings) * settings.surgery.sequences * self.tokens

    def chosen_by(self, settings: Settings) -> int:
        """Tokens by which `surgery.method: auto` chooses."""
        auto = settings.surgery.method == "auto"
        return self._counted(settings) * settings.surgery.choice_sequences * self.tokens if auto else 0

    def trained_on(self, settings: Settings) -> int:
        """Tokens of the training of rows; where `sites: auto` may take tokens, as if it took some."""
        tokens = settings.surgery.tokens
        return tokens.steps * tokens.batch_size * self.tokens if settings.prune.takes_tokens else 0

    def _counted(self, settings: Settings) -> int:
        mixture = settings.mixture or dict.fromkeys(self.domains, 1.0)
        return sum(part for domain, part in self.domains.items() if mixture[domain] > 0)
