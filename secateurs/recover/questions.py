"""Questions as the model in training is asked them."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from secateurs.families.tokenizing import encode
from secateurs.recover.training import Questions
from secateurs.text.dialogues import end_tokens_of
from secateurs.text.turns import Turns


def questions_of(tokenizer: PreTrainedTokenizerBase, turns: Turns, questions: Iterable[str]) -> Questions:
    """The words of users, in the chat template that `turns` is (turns.turns_of), as ids of `tokenizer`."""
    asked = [turns.before + question + turns.between for question in questions]
    return Questions(encode(tokenizer, asked), end_tokens_of(tokenizer, turns))
