"""What a recovery refuses: settings that do not go together, and numbers that are none."""

import math

from secateurs.devices.optimizer import check_optimizer
from secateurs.devices.parallel import processes
from secateurs.errors import SettingError
from secateurs.recover.training import Questions, Texts
from secateurs.settings.recovery import Training


def questions_for(texts: Texts, training: Training) -> Questions | None:
    """The questions that are answered, if any; raises InputError where they or settings are wrong."""
    if problems := training.problems():
        raise SettingError("\n".join(problems))
    check_processes(training, processes())
    check_optimizer(training.optimizer)
    if training.abilities.questions and texts.asked is None:
        raise SettingError(
            f"recover.abilities.questions: {training.abilities.questions}: there are no answers "
            "of the dense model to agree with; give some, or set it to 0"
        )
    if not training.on_policy.share:
        return None
    if texts.questions is None or not texts.questions.prompts:
        raise SettingError(
            f"recover.on_policy.share: {training.on_policy.share}: there are no questions to answer; give "
            "some, or set it to 0"
        )
    return texts.questions


def check_processes(training: Training, count: int) -> None:
    """Raise SettingError for what so many processes cannot do together."""
    if count == 1:
        return
    if training.weights != "all":
        raise SettingError(
            f"recover.weights: {training.weights}: {count} processes train all weights; set it to all, and "
            "recover.scales_first.steps to 0, or use one process"
        )
    if training.on_policy.share:
        raise SettingError(
            f"recover.on_policy.share: {training.on_policy.share}: answers are written by one process, and "
            f"there are {count}; set it to 0, or use one process"
        )
    if training.abilities.questions:
        raise SettingError(
            f"recover.abilities.questions: {training.abilities.questions}: the dense model's answers "
            f"are written by one process, and there are {count}; set it to 0, or use one process"
        )
    if training.optimizer != "adamw":
        raise SettingError(
            f"recover.optimizer: {training.optimizer}: one process keeps its means, and there are "
            f"{count}; set it to adamw, or use one process"
        )
    if training.teacher == "cached":
        raise SettingError(
            f"recover.teacher: cached: one process writes and reads it, and there are {count}; set it "
            "to live, or use one process"
        )
    if training.batch_size % count:
        raise SettingError(
            f"recover.batch_size: {training.batch_size}: cannot be divided among {count} processes; give a "
            "multiple"
        )


def check_finite(value: float, step: int, training: Training) -> None:
    """Raise SettingError where a loss or a gradient's norm is no finite number."""
    if not math.isfinite(value):
        raise SettingError(
            f"recover.learning_rate: {training.learning_rate:g}: the loss or its gradient's norm is {value} "
            f"at step {step + 1}; choose a smaller one"
        )
