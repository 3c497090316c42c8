"""The settings of a recovery: the text that it reads, and how it trains.

They have defaults, for who calls the library; params.yaml gives every key.
"""

from typing import Annotated, Literal

from pydantic import Field

from secateurs.settings.base import Count, Group, Positive, Seed
from secateurs.settings.groups import Temperature, Written

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


class OnPolicy(Written):
    """Answers that the model in training writes itself, and the dense model scores.

    share: of each step's sequences, these answers'; 0 writes none.
    every: steps between two times at which answers are written, for all steps until the next.
    batch_size: answers that are written at once.
    tokens, temperature, min_p: the longest answer, and how its tokens are drawn.
    first_tokens: the longest answer at the first step; the length grows evenly from there.
    grown: the fraction of the steps after which answers may be as long as `tokens`.
    divergence: what is minimised at their tokens (divergence.Kind).
    """

    share: Annotated[float, Field(ge=0, le=1)]
    every: Positive
    batch_size: Positive
    first_tokens: Positive
    grown: Annotated[float, Field(gt=0, le=1)]
    divergence: Literal["forward", "reverse", "js"]


class LowRank(Group):
    """Which projections of the decoder layers get matrices of low rank beside them, and of what rank.

    targets: the last parts of their names; none: all.
    """

    rank: Positive
    targets: list[str]


class Abilities(Group):
    """Questions that are left out of training, and the dense model's likeliest answers to them.

    questions: how many; 0 asks none.
    measure: what agrees (abilities.py): the tokens that are likeliest, or the last numbers of answers that
    the model in training writes too.
    tokens: the longest answer.
    batch_size: answers that are written at once.
    """

    questions: Count
    measure: Literal["tokens", "numbers"]
    tokens: Positive
    batch_size: Positive


class Cached(Group):
    """What of the dense model's distributions is on disk.

    likeliest: how many of the likeliest tokens of each position; all others are one class.
    """

    likeliest: Positive


class Training(Group):
    """How a recovery trains.

    weights: what is trained, `all` of the decoder (trained.trainable), matrices of `low_rank` beside its
    projections (low_rank.low_rank), `routers` of a mixture (routers.routers) or `scales` (scales.scaled).
    steps: updates of the weights, at most.
    minutes: of wall time, in which the training chooses how many of the steps it makes; None: all of them.
    batch_size: sequences of a step.
    micro_batch_size: how many of them run at once; their gradients are added up.
    teacher: the dense model runs beside the one in training (live), or once before (teacher_cache).
    checkpointing: whether a backward pass runs each decoder layer again (rerunning.rerunning).
    optimizer: AdamW, its means in float32 or in 8 bits (devices/optimizer.py).
    learning_rate: at its peak.
    warmup: the fraction of the steps over which the learning rate rises to its peak.
    clip: the largest norm of a gradient.
    seed: of the order of the sequences.
    check_every: steps between two checks on left-out text.
    abilities: the questions of each check.
    best_by: the best check has the lowest divergence on left-out text, or the highest agreement with the
    dense model's answers (abilities.agreement).
    patience: training ends after so many checks without a new best one.
    """

    weights: Literal["scales", "low_rank", "routers", "all"] = "scales"
    low_rank: LowRank = LowRank(rank=64, targets=[])
    steps: Count = 120
    minutes: Annotated[float, Field(gt=0)] | None = None
    on_policy: OnPolicy = OnPolicy(
        share=0.0,
        every=16,
        batch_size=256,
        first_tokens=64,
        tokens=512,
        grown=0.5,
        temperature=1.0,
        min_p=0.02,
        divergence="forward",
    )
    batch_size: Positive = 16
    micro_batch_size: Positive = 16
    teacher: Literal["live", "cached"] = "live"
    cached: Cached = Cached(likeliest=64)
    checkpointing: bool = False
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 0.002
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    clip: Annotated[float, Field(gt=0)] = 1.0
    seed: Seed = 0
    check_every: Positive = 20
    abilities: Abilities = Abilities(questions=0, measure="tokens", tokens=256, batch_size=64)
    best_by: Literal["divergence", "agreement"] = "divergence"
    patience: Positive = 2

    @property
    def frozen(self) -> bool:
        """Whether no weight is changed in place: weights may be in half precision, and the teacher's too."""
        return self.weights in ("low_rank", "routers")

    def answers(self) -> int:
        """How many of a step's sequences are answers of the model in training."""
        return round(self.on_policy.share * self.batch_size)

    def problems(self) -> list[str]:
        """What is wrong with the group beyond the types of its values, a line each."""
        how = self.on_policy
        problems = []
        if how.share and not self.answers():
            problems.append(
                f"recover.on_policy.share: {how.share}: no sequence of recover.batch_size: "
                f"{self.batch_size}; give at least {1 / self.batch_size:.3g}, or 0"
            )
        if how.first_tokens > how.tokens:
            problems.append(
                f"recover.on_policy.first_tokens: {how.first_tokens}: more than recover.on_policy.tokens: "
                f"{how.tokens}; answers grow from the one to the other"
            )
        if self.teacher == "cached" and how.share:
            problems.append(
                f"recover.teacher: cached: recover.on_policy.share: {how.share}: answers of the model in "
                "training are scored by the dense model itself; set the one to live, or the other to 0"
            )
        if self.best_by == "agreement" and not self.abilities.questions:
            problems.append(
                "recover.best_by: agreement: recover.abilities.questions: 0 asks nothing to agree on; "
                "ask some, or set it to divergence"
            )
        return problems


class Recover(Training):
    """A recovery: the text that it writes and leaves out, and the trainings, one after the other."""

    own: OwnText = OwnText(plain=192, dialogues=256, tokens=256, temperature=1.0, batch_size=64, seed=0)
    mixture: RecoverMixture = RecoverMixture(calibration=0.3, plain=0.3, dialogues=0.4)
    left_out: Positive = 2
    scales_first: ScalesFirst = ScalesFirst(steps=100, learning_rate=0.002)

    def trainings(self) -> list[Training]:
        """What is trained, one after the other: scales first where that is asked for."""
        given = {name: getattr(self, name) for name in Training.model_fields}
        if self.weights != "all" or not self.scales_first.steps:
            return [Training(**given)]
        first = {"weights": "scales", **dict(self.scales_first), "minutes": None}
        first["on_policy"] = self.on_policy.changed(share=0.0)
        return [Training(**given | first), Training(**given)]

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
        asking = {
            "recover.on_policy.share": self.on_policy.share,
            "recover.abilities.questions": self.abilities.questions,
        }
        problems += [
            f"{key}: {value}: the questions are those of own dialogues, of which "
            "recover.mixture.dialogues: 0 reads none; give it a weight"
            for key, value in asking.items()
            if value and not shares["dialogues"]
        ]
        return problems + super().problems()
