"""Looks at abilities: whether a model answers left-out questions as the dense one does."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from secateurs.devices.precision import tensor_cores
from secateurs.inference.attention_kernels import many_shapes
from secateurs.inference.loss import CHUNK_TOKENS, head_logits
from secateurs.recover.rollouts import batches
from secateurs.recover.steps import Pair
from secateurs.recover.training import Answer, Questions
from secateurs.settings.recovery import Abilities
from secateurs.text.sampling import Draw, Lots, go_on


def dense_answers(teacher: PreTrainedModel, questions: Questions, settings: Abilities) -> list[Answer]:
    """The dense model's answers to all questions, the likeliest token each time."""
    prompts, lots = questions.prompts, Lots("", settings.batch_size)
    written = go_on(
        teacher, prompts, settings.tokens, Draw(0.0), lots, ends=questions.ends, label="dense answers"
    )
    return [Answer(tuple(asked), tuple(ids)) for asked, ids in zip(prompts, written, strict=True)]


@torch.no_grad()
def agreement(pair: Pair, answers: Sequence[Answer], tokens: int) -> float:
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
            output = pair.student.base_model(input_ids=ids.to(device), use_cache=False)
            hidden = output.last_hidden_state[where.to(device)]
            parts = zip(hidden.split(CHUNK_TOKENS), following.to(device).split(CHUNK_TOKENS), strict=True)
            for part, wanted in parts:
                same += (head(part).argmax(dim=-1) == wanted).sum()
    return int(same) / sum(len(answer.ids) for answer in answers)
