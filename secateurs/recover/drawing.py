"""The order in which sequences are drawn."""

from collections.abc import Mapping

import torch


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
