"""What must be so of weights that were loaded, whatever they were loaded from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from secateurs.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_weights(model: PreTrainedModel, report: Mapping[str, Any], where: str) -> None:
    """Raise InputError if weights are missing, unexpected, of other shapes, or not finite.

    report: what transformers says of the loading. It makes random weights for those that are missing or of
    other shapes than the config tells, and drops those that the config does not tell of: the model would be
    another one than was given.
    """
    if report["missing_keys"]:
        raise InputError(f"{where}: weights are missing: {_few(sorted(report['missing_keys']))}")
    others = sorted(report["mismatched_keys"])
    if others:
        shapes = [f"{name} {list(there)}, not {list(told)}" for name, there, told in others]
        raise InputError(f"{where}: weights have other shapes than its config tells: {_few(shapes)}")
    unexpected = report["unexpected_keys"]
    if unexpected:
        raise InputError(
            f"{where}: its config does not tell of weights in its files: {_few(sorted(unexpected))}; without "
            "them it would be another model"
        )
    broken = not_finite(model)
    if broken:
        raise InputError(f"{where}: weights are not finite: {_few(broken)}")


def check_result(model: PreTrainedModel) -> None:
    """Raise InputError where weights of a model that is to be saved are not finite.

    What is finite in float32 may be more than its dtype can hold.
    """
    broken = not_finite(model)
    if broken:
        dtype = str(model.get_parameter(broken[0]).dtype).removeprefix("torch.")
        raise InputError(
            f"weights of the result are not finite in {dtype}: {_few(broken)}; give the dense model in "
            "bfloat16 or float32, which hold larger numbers, or heal by another method (surgery.heal)"
        )


def not_finite(model: PreTrainedModel) -> list[str]:
    """The names of weights that hold an infinity or no number."""
    return [name for name, weight in model.named_parameters() if not _is_finite(weight)]


def _is_finite(weight: torch.Tensor) -> bool:
    # A sum reads the weights once and makes no mask of them. It proves only that all are finite, because that
    # of finite ones may overflow.
    return bool(torch.isfinite(weight.sum(dtype=torch.float32))) or bool(torch.isfinite(weight).all())


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
