"""All settings of a pruning together."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from secateurs.errors import SettingError
from secateurs.settings.base import DEVICE, Group, put_by_key
from secateurs.settings.problems import lines_of
from secateurs.settings.pruning import GRADIENT_METRICS, TARGETS, Capture, Mask, Prune, Surgery


class Settings(Group):
    """All settings of a pruning, by the names that they have in params.yaml, whose values are the defaults.

    mixture: how much each domain of the text counts; empty: all the same. rounds: the fraction of the target
    reached after each round, by the name of the round, rising to 1. device: as `compute.device`.
    """

    mixture: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    rounds: dict[str, float] = Field(default_factory=lambda: {"r1": 0.34, "r2": 0.67, "r3": 1.0})
    mask: Mask = Mask()
    prune: Prune = Prune(sparsity=0.2)
    capture: Capture = Capture()
    surgery: Surgery = Surgery()
    device: Annotated[str, Field(pattern=DEVICE)] = "auto"

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        problems = [
            *_round_problems(self.rounds),
            *self.prune.problems(),
            *measure_problems(self.mask, self.capture),
            *healing_problems(self.surgery),
            *token_problems(self.surgery, self.prune, self.device),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def settings_of(changes: Mapping[str, Any]) -> Settings:
    """The default settings with some changed, by their keys in params.yaml: {"prune.sparsity": 0.3, ...}.

    One of the targets (`prune.sparsity` and the others of TARGETS) takes the place of the others, and so does
    `prune.sites: []`, with which there is none. Raises SettingError, a line a problem, for a key that there
    is not, one inside a value that is given whole, and a value that nothing can take.
    """
    values: dict[str, Any] = Settings().model_dump()
    targets = [key for key in changes if key.startswith("prune.") and key.partition(".")[2] in TARGETS]
    if targets or changes.get("prune.sites") == []:
        values["prune"].pop("sparsity")
    put_by_key(values, changes, _no_group)
    return checked_settings(values)


def _no_group(key: str, name: str) -> str:
    """Why a key cannot be given, of which `name` is no group of settings."""
    above, _, _ = key.partition(f".{name}.")
    if above == "prune" and name in TARGETS:
        example = '{"bytes": 2000000000, "precision": "q8_0"}' if name == "memory" else "a number"
        return f"prune.{name} is given whole, as {example}"
    if name == key.partition(".")[0]:
        return f"unknown key; {name} is no group of settings: there are {', '.join(Settings.model_fields)}"
    return f"unknown key; {name} is no group of settings"


def checked_settings(values: Mapping[str, Any]) -> Settings:
    """Settings of nested values; SettingError, a line a problem, for what they cannot be."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingError("\n".join(lines_of(error))) from None


def measure_problems(mask: Mask, capture: Capture) -> Iterator[str]:
    """Scores from what is captured."""
    if mask.metric in GRADIENT_METRICS and not capture.gradients:
        yield (
            f"mask.metric: {mask.metric}: needs gradients; set capture.gradients: true, "
            "or choose wanda, fluctuation, magnitude or random"
        )
    if capture.layers == "streamed" and capture.gradients:
        yield (
            "capture.layers: streamed: capture.gradients: true makes a backward pass, for which all layers "
            "must be there; set it to false, with another mask.metric than fisher and taylor, or "
            "capture.layers: resident"
        )
    if mask.reweight and not mask.left_out:
        yield (
            f"mask.reweight: {mask.reweight:g}: needs to know what was lost; set mask.left_out, such as 4, "
            "or mask.reweight: 0"
        )


def unread_gradients(mask: Mask, capture: Capture) -> str | None:
    """What is said of a backward pass from which the metric reads nothing; None where it reads it."""
    if mask.metric in GRADIENT_METRICS or not capture.gradients:
        return None
    return (
        f"capture.gradients: true makes a backward pass that mask.metric: {mask.metric} does not read; false "
        "takes half of a round's time"
    )


def healing_problems(surgery: Surgery) -> Iterator[str]:
    """Ways of healing that go together."""
    if surgery.reconstruct.epochs and surgery.method != "residual":
        yield (
            f"surgery.heal: {surgery.heal}: reconstruction starts from the residual refit; set "
            "surgery.heal: residual (with it, auto is the same), or surgery.reconstruct.epochs: 0"
        )


def token_problems(surgery: Surgery, prune: Prune, device: str) -> Iterator[str]:
    """The training of rows, where some go, is on one device."""
    if surgery.tokens.steps and prune.takes_tokens and device == "sharded":
        yield (
            f"compute.device: sharded: surgery.tokens: {surgery.tokens.steps} steps need one device; set "
            "surgery.tokens.steps to 0"
        )


def _round_problems(rounds: Mapping[str, float]) -> Iterator[str]:
    reached = [0.0, *rounds.values()]
    rising = all(before < after for before, after in pairwise(reached))
    if not rising or reached[-1] != 1.0:
        yield f"rounds: {dict(rounds)}: the shares must rise from above 0 to 1.0"
