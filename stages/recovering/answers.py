"""The dense model's answers to the questions on abilities, written once a recovery."""

from transformers import PreTrainedModel

from secateurs.inference import writing
from secateurs.recover import abilities
from secateurs.recover.abilities import dense_answers
from secateurs.recover.rollouts import from_tensor, to_tensor
from secateurs.recover.training import Answer, Questions
from stages.common.paths import MODEL
from stages.params.file import Params
from stages.recovering.snapshots import code_files, snapshot_path
from stages.rounds.tensors import read_tensors, write_tensors

KEY = "answers"


def answers_of(teacher: PreTrainedModel, questions: Questions, params: Params) -> list[Answer]:
    """The dense model's answers; those of a recovery that was stopped, where it goes on."""
    settings = {
        "abilities": params.recover.abilities.model_dump(),
        "dtype": params.compute.dtype,
        "prompts": [list(prompt) for prompt in questions.prompts],
        "ends": sorted(questions.ends),
    }
    path = snapshot_path(settings, [MODEL, *code_files(abilities, writing)])
    if path.exists():
        return from_tensor(read_tensors(path)[0][KEY])
    answers = dense_answers(teacher, questions, params.recover.abilities)
    write_tensors(path, {KEY: to_tensor(answers)}, {})
    return answers
