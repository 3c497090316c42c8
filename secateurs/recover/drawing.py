"""The order in which sequences are drawn."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from secateurs.recover.training import Texts
from secateurs.settings.recovery import Training


def draws(
    counts: Mapping[str, int], mixture: Mapping[str, float], total: int, seed: int
) -> list[tuple[str, int]]:
    """`total` sequences in the order in which they are trained on: (domain, row).

    counts: how many sequences each domain has. After any number of draws each domain was drawn in proportion
    to `mixture`, to within one sequence. Its rows are shuffled again each time all were drawn. The same seed
    gives the same order.
    """
    weight = {domain: mixture[domain] for domain in counts if mixture[domain] > 0}
    whole = sum(weight.values())
    generator = torch.Generator().manual_seed(seed)
    taken = dict.fromkeys(weight, 0)
    waiting: dict[str, list[int]] = {domain: [] for domain in weight}
    order = []
    for number in range(1, total + 1):
        # The domain that is furthest behind its proportion.
        domain = max(weight, key=lambda name: number * weight[name] / whole - taken[name])
        if not waiting[domain]:
            waiting[domain] = torch.randperm(counts[domain], generator=generator).tolist()
        order.append((domain, waiting[domain].pop()))
        taken[domain] += 1
    return order


def drawn_texts(texts: Texts, training: Training) -> list[list[tuple[str, int]]]:
    """What text each step reads: (domain, row), batch_size of them less the answers."""
    each = training.batch_size - training.answers()
    counts = {domain: len(rows) for domain, rows in texts.trained.items()}
    order = draws(counts, texts.mixture, training.steps * each, training.seed)
    return [order[step * each : (step + 1) * each] for step in range(training.steps)]


def drawn_rows(texts: Texts, drawn: Sequence[tuple[str, int]]) -> Tensor:
    """Those sequences, int64 [count, tokens]."""
    length = next(iter(texts.trained.values())).shape[1]
    rows = [texts.trained[domain][row] for domain, row in drawn]
    return torch.stack(rows) if rows else torch.empty(0, length, dtype=torch.int64)
