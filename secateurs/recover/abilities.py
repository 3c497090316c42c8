"""Looks at abilities: whether a model answers left-out questions as the dense one does."""

import re
from collections.abc import Sequence
from decimal import Decimal

import torch
from transformers import PreTrainedModel

from secateurs.devices.precision import tensor_cores
from secateurs.errors import SettingError
from secateurs.inference.attention_kernels import many_shapes
from secateurs.inference.head import head_logits, hidden_states
from secateurs.inference.loss import CHUNK_TOKENS
from secateurs.recover.rollouts import batches, to_write_with
from secateurs.recover.steps import Pair
from secateurs.recover.training import Answer, Asked, Questions
from secateurs.settings.recovery import Abilities
from secateurs.text.sampling import Draw, Lots, go_on

_NUMBER = re.compile(r"(?<!\d)-?\d[\d,]*(?:\.\d+)?")


def likeliest_answers(model: PreTrainedModel, questions: Questions, settings: Abilities) -> list[Answer]:
    """A model's answers to all questions, the likeliest token each time."""
    prompts, lots = questions.prompts, Lots("", settings.batch_size)
    written = go_on(model, prompts, settings.tokens, Draw(0.0), lots, ends=questions.ends, label="answers")
    return [Answer(tuple(asked), tuple(ids)) for asked, ids in zip(prompts, written, strict=True)]


def agreement(pair: Pair, asked: Asked, settings: Abilities, tokens: int) -> float:
    """The agreement with the dense model's answers by the settings' measure, a share.

    tokens: how many run together, about, where nothing is written.
    """
    if settings.measure == "tokens":
        return same_tokens(pair, asked.answers, tokens)
    return same_numbers(pair, asked, settings)


def same_numbers(pair: Pair, asked: Asked, settings: Abilities) -> float:
    """The share of questions that the student answers, in its own likeliest words, with the same last number.

    Of the questions to which the dense model's answer has a number; that is what a word problem asks for. An
    answer counts as a whole, so it takes far more of them than same_tokens does to tell two models apart, and
    each must be written. Raises SettingError where no answer of the dense model has a number.
    """
    numbers = [last_number(asked.decode(one.ids)) for one in asked.answers]
    if not any(number is not None for number in numbers):
        raise SettingError(
            f"recover.abilities.measure: numbers: of the dense model's {len(numbers)} answers none has a "
            "number; set it to tokens"
        )
    questions = Questions([one.question for one in asked.answers], asked.ends)
    written = likeliest_answers(to_write_with(pair.student, pair.autocast), questions, settings)
    pairs = zip(written, numbers, strict=True)
    same = [last_number(asked.decode(one.ids)) == number for one, number in pairs if number is not None]
    return sum(same) / len(same)


def last_number(text: str) -> Decimal | None:
    """The last number in a text, read without the commas of thousands; None where there is none."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None


@torch.no_grad()
def same_tokens(pair: Pair, answers: Sequence[Answer], tokens: int) -> float:
    """The share of the answers' tokens that the student holds likeliest where they stand.

        sum_t [argmax q(. | question, answer before t) = answer_t] / number of tokens of all answers

    The dense model's own share is 1, up to ties and rounding, because it wrote the answers so. The student
    writes nothing: it reads each answer once, as the dense model wrote it. So a look costs a forward pass,
    and a token that differs does not change what is asked at those after it. KL weighs how sure a model is
    at every token; this counts those at which it would write something else. tokens: how many run together,
    about.
    """
    head, device = head_logits(pair.student), pair.device
    same = torch.zeros((), dtype=torch.int64, device=device)
    with tensor_cores(), many_shapes(), pair.casting():
        for ids, where, following in batches(answers, tokens):
            hidden = hidden_states(pair.student, ids.to(device))[where.to(device)]
            parts = zip(hidden.split(CHUNK_TOKENS), following.to(device).split(CHUNK_TOKENS), strict=True)
            for part, wanted in parts:
                same += (head(part).argmax(dim=-1) == wanted).sum()
    return int(same) / sum(len(answer.ids) for answer in answers)
