"""The settings of a recovery: the text that it reads, and how it trains."""

from typing import Annotated, Literal

from pydantic import Field

from secateurs.settings.base import Count, Group, Positive, Seed
from secateurs.settings.groups import Temperature

# What a recovery adds, by its key under `recover`. No domain of params.yaml has a space in its name.
OWN_KINDS = {"plain": "own text", "dialogues": "own dialogues"}


class OwnText(Group):
    """What the dense model writes itself for a recovery."""

    plain: Count
    dialogues: Count
    tokens: Positive
    temperature: Temperature
    batch_size: Positive
    seed: Seed


class RecoverMixture(Group):
    """How much each kind of text counts in a recovery."""

    calibration: Annotated[float, Field(ge=0)]
    plain: Annotated[float, Field(ge=0)]
    dialogues: Annotated[float, Field(ge=0)]


class ScalesFirst(Group):
    """A short training of scales before that of all weights."""

    steps: Count
    learning_rate: Annotated[float, Field(gt=0)]


class Training(Group):
    """How a recovery trains.

    weights: what is trained, `all` of the decoder (recovery.trainable) or `scales` (scales.scaled).
    steps: updates of the weights, at most.
    batch_size: sequences of a step.
    micro_batch_size: how many of them run at once; their gradients are added up.
    learning_rate: at its peak.
    warmup: the fraction of the steps over which the learning rate rises to its peak.
    clip: the largest norm of a gradient.
    seed: of the order of the sequences.
    check_every: steps between two checks on left-out text.
    patience: training ends after so many checks without a new lowest divergence.
    """

    weights: Literal["scales", "all"]
    steps: Count
    batch_size: Positive
    micro_batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    clip: Annotated[float, Field(gt=0)]
    seed: Seed
    check_every: Positive
    patience: Positive


class Recover(Training):
    """A recovery: the text that it writes and leaves out, and the trainings, one after the other."""

    own: OwnText
    mixture: RecoverMixture
    left_out: Positive
    scales_first: ScalesFirst

    def trainings(self) -> list[Training]:
        """What is trained, one after the other: scales first where that is asked for."""
        given = {name: getattr(self, name) for name in Training.model_fields}
        if self.weights == "scales" or not self.scales_first.steps:
            return [Training(**given)]
        return [Training(**given | {"weights": "scales", **dict(self.scales_first)}), Training(**given)]

    def problems(self) -> list[str]:
        """What is wrong with the group beyond the types of its values, a line each."""
        shares = self.mixture.model_dump()
        problems = [
            f"recover.mixture.{kind}: {shares[kind]}: recover.own.{kind}: 0 writes no such text"
            for kind in OWN_KINDS
            if shares[kind] and not getattr(self.own, kind)
        ]
        if not any(shares.values()):
            problems.append("recover.mixture: all weights are 0; at least one kind of text must count")
        return problems
