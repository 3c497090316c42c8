"""The recovery that `secateurs prune --recover` asks for; without torch."""

import copy
import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from secateurs.errors import InputError, SettingError
from secateurs.settings.base import Group
from secateurs.settings.problems import lines_of
from secateurs.settings.recovery import Recover

PREFIX = "recover."
# In minutes.
_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0}
# As params.yaml has it, but by the text that was given alone, and with more steps than anybody waits for.
_USUAL: dict[str, Any] = {
    "own": {"plain": 0, "dialogues": 0, "tokens": 256, "temperature": 1.0, "batch_size": 64, "seed": 0},
    "mixture": {"calibration": 1.0, "plain": 0.0, "dialogues": 0.0},
    "left_out": 2,
    "weights": "scales",
    "low_rank": {"rank": 64, "targets": []},
    "scales_first": {"steps": 100, "learning_rate": 0.002},
    "steps": 10_000,
    "minutes": None,
    "on_policy": {
        "share": 0.0,
        "every": 16,
        "batch_size": 256,
        "first_tokens": 64,
        "tokens": 512,
        "grown": 0.5,
        "temperature": 1.0,
        "min_p": 0.02,
        "divergence": "forward",
    },
    "batch_size": 16,
    "micro_batch_size": 16,
    "checkpointing": False,
    "learning_rate": 0.002,
    "warmup": 0.05,
    "clip": 1.0,
    "seed": 0,
    "check_every": 20,
    "patience": 2,
}


class _Group(Group):
    recover: Recover


def recovery_of(minutes: str, changes: Mapping[str, Any]) -> Recover:
    """A recovery of so many minutes (`90s`, `10m`, `1h`) with settings changed, by their keys in params.yaml.

    Raises InputError for a time that cannot be read or is not above 0, and for settings that nothing can
    have or that need text which the dense model writes, as only the pipeline does.
    """
    values = copy.deepcopy(_USUAL)
    for key, value in {**changes, f"{PREFIX}minutes": minutes_of(minutes)}.items():
        _, *groups, last = key.split(".")
        group = values
        for name in groups:
            if not isinstance(group.get(name), dict):
                raise SettingError(f"{key}: {value!r}: unknown key; {name} is no group of settings")
            group = group[name]
        group[last] = value
    try:
        recovery = _Group.model_validate({"recover": values}).recover
    except ValidationError as error:
        raise SettingError("\n".join(lines_of(error))) from None
    if problems := recovery.problems():
        raise SettingError("\n".join(problems))
    if recovery.mixture.plain or recovery.mixture.dialogues:
        raise SettingError(
            "recover.mixture: text that the dense model writes is read by the pipeline alone; use "
            "`secateurs init`, or leave plain and dialogues 0"
        )
    if recovery.teacher == "cached":
        raise SettingError(
            "recover.teacher: cached: the file is kept by the pipeline alone; use `secateurs init`, or live"
        )
    return recovery


def minutes_of(given: str) -> float:
    """Minutes of a time with its unit."""
    try:
        minutes = float(given[:-1]) * _UNITS[given[-1:]]
    except (ValueError, KeyError):
        raise InputError(f"--recover: {given}: write a time with its unit: 90s, 10m or 1h") from None
    if not 0 < minutes < math.inf:
        raise InputError(f"--recover: {given}: must be more than 0, such as 10m")
    return minutes
