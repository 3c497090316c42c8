"""The recovery that `secateurs prune --recover` asks for; without torch."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from secateurs.errors import InputError, SettingError
from secateurs.settings.base import Group, put_by_key
from secateurs.settings.problems import lines_of
from secateurs.settings.recovery import Recover

PREFIX = "recover."
# In minutes.
_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0}
# By the text that was given alone, and with more steps than anybody waits for.
_OWN: dict[str, Any] = {
    "recover.own.plain": 0,
    "recover.own.dialogues": 0,
    "recover.mixture.calibration": 1.0,
    "recover.mixture.plain": 0.0,
    "recover.mixture.dialogues": 0.0,
    "recover.steps": 10_000,
}


class _Group(Group):
    recover: Recover


def recovery_of(minutes: str, changes: Mapping[str, Any]) -> Recover:
    """A recovery of so many minutes (`90s`, `10m`, `1h`) with settings changed, by their keys in params.yaml.

    Raises InputError for a time that cannot be read or is not above 0, and for settings that nothing can
    have or that need text which the dense model writes, as only the pipeline does.
    """
    values = _Group(recover=Recover()).model_dump()
    changed = {**_OWN, **changes, "recover.minutes": minutes_of(minutes)}
    put_by_key(values, changed, lambda _, name: f"unknown key; {name} is no group of settings")
    try:
        recovery = _Group.model_validate(values).recover
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
