"""The file of channel statistics that a round's capture leaves for its mask."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateurs.errors import InputError
from secateurs.kinds.names import parse_name
from secateurs.kinds.registry import kinds
from secateurs.measure.capture import DomainCapture
from stages.common.hashes import AGAIN
from stages.rounds.tensors import read_tensors, write_tensors


def write_captures(path: Path, captures: Mapping[str, DomainCapture], settings: Mapping[str, Any]) -> None:
    """Write statistics as `<domain>/<layer>/<kind>/<statistic>`; counts, losses and settings as metadata."""
    tensors = {
        f"{domain}/{site}/{statistic}": values.contiguous()
        for domain, capture in captures.items()
        for site, statistics in capture.statistics.items()
        for statistic, values in statistics.items()
    }
    counts = {
        domain: {
            "loss": capture.loss,
            "sequences": capture.sequences,
            "tokens": capture.tokens,
            "answers": capture.answers,
            **({} if capture.lost is None else {"lost": capture.lost}),
        }
        for domain, capture in captures.items()
    }
    write_tensors(path, tensors, {"domains": counts, "settings": settings})


def read_captures(path: Path) -> dict[str, DomainCapture]:
    """Read statistics. Raises InputError for a vector that is not float32, finite and non-negative."""
    tensors, metadata = read_tensors(path)
    if "domains" not in metadata:
        raise InputError(f"{path}: has no counts per domain; run the capture stage again")
    grouped: dict[str, dict[str, dict[str, Tensor]]] = {}
    for key, values in tensors.items():
        domain, _, rest = key.partition("/")
        site, _, statistic = rest.rpartition("/")
        observed = kinds()[parse_name(site).kind].observed
        if statistic not in observed or values.dtype != torch.float32 or values.dim() != 1:
            raise InputError(f"{path}: {key}: not a float32 vector of {', '.join(sorted(observed))}")
        if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
            raise InputError(f"{path}: {key}: holds negative or non-finite values")
        grouped.setdefault(domain, {}).setdefault(site, {})[statistic] = values
    captures = {}
    counts = metadata["domains"]
    # Where only the vocabulary is cut, nothing is observed but the loss.
    if (
        not isinstance(counts, dict)
        or set(counts) != set(grouped or counts)
        or not all(map(_is_count, counts.values()))
    ):
        raise InputError(f"{path}: damaged: its counts per domain are not those of its tensors; {AGAIN}")
    for domain, count in counts.items():
        captures[domain] = DomainCapture(grouped.get(domain, {}), **count)
    return captures


def _is_count(count: Any) -> bool:
    """Whether this is what a capture says of a domain: a finite loss, of what, and how much it read."""
    return (
        isinstance(count, dict)
        and set(count) - {"lost"} == {"loss", "sequences", "tokens", "answers"}
        and isinstance(count["answers"], bool)
        and all(isinstance(count[name], int) and count[name] > 0 for name in ("sequences", "tokens"))
        and all(
            isinstance(count[name], int | float) and math.isfinite(count[name])
            for name in ("loss", "lost")
            if name in count
        )
    )
