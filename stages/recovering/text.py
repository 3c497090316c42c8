"""What a recovery reads: calibration text and the dense model's own, and what of it is left out."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from secateurs.errors import InputError
from secateurs.settings.recovery import OWN_KINDS
from stages.params.file import Params

CALIBRATION_KIND = "calibration text"


def recovery_mixture(params: Params) -> dict[str, float]:
    """The share of each domain that counts, together 1: `recover.mixture`, that of calibration divided by
    `mixture`."""
    shares = params.recover.mixture
    domains = {domain: weight for domain, weight in params.mixture.items() if weight > 0}
    found = {
        domain: shares.calibration * weight / sum(domains.values()) for domain, weight in domains.items()
    }
    found |= {domain: getattr(shares, kind) for kind, domain in OWN_KINDS.items()}
    whole = sum(found.values())
    return {domain: share / whole for domain, share in found.items() if share > 0}


def rows_left_out(params: Params) -> dict[str, int]:
    """How many sequences of each domain are not trained on.

    They are `recover.left_out` of each calibration domain, and of each kind of own text as many as of all
    those together.
    """
    mixture, own = recovery_mixture(params), set(OWN_KINDS.values())
    count = params.recover.left_out
    calibration = sum(domain not in own for domain in mixture)
    return {domain: count * max(1, calibration) if domain in own else count for domain in mixture}


def leave_out(
    sequences: Mapping[str, Tensor], counts: Mapping[str, int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The sequences to train on, and the last `counts` of each domain, which are left out.

    Raises InputError for a domain that has no others.
    """
    for domain, rows in sequences.items():
        if len(rows) <= counts[domain]:
            raise InputError(
                f"params.yaml: recover.left_out: {domain} has {len(rows)} sequences, of which "
                f"{counts[domain]} would be left out and none trained on; lower it, or give more text"
            )
    train = {domain: rows[: -counts[domain]] for domain, rows in sequences.items()}
    return train, {domain: rows[-counts[domain] :] for domain, rows in sequences.items()}


def by_kind(values: Mapping[str, float], mixture: Mapping[str, float]) -> dict[str, float]:
    """The means of domains' values by kind of text, each domain counting its share of `mixture`."""
    return {
        kind: sum(mixture[domain] * values[domain] for domain in domains)
        / sum(mixture[domain] for domain in domains)
        for kind, domains in _kinds(values).items()
    }


def shares_of_kinds(mixture: Mapping[str, float]) -> dict[str, float]:
    """The shares of domains added up by kind of text."""
    return {kind: sum(mixture[domain] for domain in domains) for kind, domains in _kinds(mixture).items()}


def _kinds(domains: Iterable[str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for domain in domains:
        kinds.setdefault(domain if domain in OWN_KINDS.values() else CALIBRATION_KIND, []).append(domain)
    return kinds
