"""The settings of a recovery's training, how it went, and all that is needed to go on with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from statistics import fmean
from typing import Literal

from torch import Tensor

from secateurs.settings.recovery import Training


@dataclass(frozen=True)
class Questions:
    """What the model in training is asked: token ids up to where an answer begins, and ids that end one."""

    prompts: Sequence[Sequence[int]]
    ends: frozenset[int]


@dataclass(frozen=True)
class Answer:
    """A question's token ids, and those of the answer to it."""

    question: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Asked:
    """Questions on abilities with the dense model's answers, the ids that end one, and ids as text."""

    answers: Sequence[Answer]
    ends: frozenset[int]
    decode: Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Texts:
    """What a recovery reads, by domain.

    trained: int64 [count, tokens], drawn in the proportions of `mixture`. left_out: others of the same
    domains, on which no step is made. questions: those that the model in training answers; None: none.
    asked: other questions, with the dense model's answers, of which a check takes the agreement; None: none.
    """

    trained: Mapping[str, Tensor]
    left_out: Mapping[str, Tensor]
    mixture: Mapping[str, float]
    questions: Questions | None = None
    asked: Asked | None = None


@dataclass(frozen=True)
class Check:
    """The mean divergence on left-out text after so many steps, in nats per token: of all, and by domain.

    agreement: with the dense model's answers, a share (abilities.py); None where nothing is asked.
    """

    steps: int
    divergence: float
    by_domain: Mapping[str, float]
    agreement: float | None = None


@dataclass(frozen=True)
class Course:
    """How a training went.

    losses: the mean divergence of each step on what it trained on, nats per token. checks: looks at left-out
    text, the first before any step. steps: how many were to be made, at most. tokens: how many each step
    read, padding left out. best_by: what makes a check the best one.
    """

    losses: tuple[float, ...]
    checks: tuple[Check, ...]
    steps: int
    tokens: tuple[int, ...] = ()
    best_by: Literal["divergence", "agreement"] = "divergence"

    @property
    def best(self) -> Check:
        """The check with the lowest divergence, or with the highest agreement; the first of several.

        Of equal agreements the one with the lower divergence.
        """
        if self.best_by == "agreement":
            return min(self.checks, key=lambda check: (-(check.agreement or 0.0), check.divergence))
        return min(self.checks, key=lambda check: check.divergence)

    def following(self, before: "Course") -> "Course":
        """This course as the part after another one, whose best weights it began with."""
        made = len(before.losses)
        checks = tuple(replace(check, steps=made + check.steps) for check in self.checks[1:])
        return Course(
            before.losses + self.losses,
            before.checks + checks,
            before.steps + self.steps,
            before.tokens + self.tokens,
            self.best_by,
        )

    def ended(self, training: Training) -> bool:
        """Whether no further step is to be made."""
        since = sum(check.steps > self.best.steps for check in self.checks)
        return len(self.losses) >= self.steps or since >= training.patience

    def memorised(self, training: Training) -> bool:
        """Whether the text that was trained on is at the end reproduced twice as well as left-out text."""
        last = self.losses[-training.check_every :]
        return bool(last) and 2 * fmean(last) < self.checks[-1].divergence


def together(courses: Sequence[Course]) -> Course:
    """Courses that followed each other as one."""
    return reduce(lambda before, after: after.following(before), courses)


@dataclass(frozen=True)
class Snapshot:
    """Everything that the steps after a point depend on.

    tensors: by `<part>/<parameter>` its weight and its weight at the best check, float32, and both running
    means of the optimizer, which may be in 8 bits with their scales; and `answers`, those that are waiting
    (rollouts.to_tensor). The order of the sequences, the learning rate and the random numbers of answers are
    not in it, because they follow from the settings, the course's steps and the number of the step.
    """

    course: Course
    tensors: Mapping[str, Tensor]
