"""A chat template taken apart around a question and its answer, and dialogues of these two as JSON."""

import json
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.text.chat_template import TemplateRefusalError, render_chat

# What to do where a model has no chat template.
NO_DIALOGUES = "set mixture.dialogues: 0"
NO_OWN_DIALOGUES = "set recover.own.dialogues: 0 and recover.mixture.dialogues: 0"
# Stand for the user's and the model's words while a template is taken apart.
QUESTION, ANSWER = "secateurs user words", "secateurs model words"


@dataclass(frozen=True)
class Turns:
    """A chat template around one question and its answer.

    before: up to the user's words. between: from there to where the answer begins. after: what follows it.
    """

    before: str
    between: str
    after: str


@dataclass(frozen=True)
class Dialogue:
    """A question and its answer; ended: whether the answer came to its end, or was cut off."""

    question: str
    answer: str
    ended: bool


def to_json(dialogue: Dialogue) -> str:
    """A dialogue as a conversation in JSON (text/conversations.py), which also says whether it ended."""
    turns = [
        {"role": "user", "content": dialogue.question},
        {"role": "assistant", "content": dialogue.answer, "ended": dialogue.ended},
    ]
    return json.dumps(turns, ensure_ascii=False)


def from_json(conversation: str) -> Dialogue:
    """What to_json wrote."""
    question, answer = json.loads(conversation)
    return Dialogue(question["content"], answer["content"], answer["ended"])


def turns_of(tokenizer: PreTrainedTokenizerBase, where: Path, remedy: str) -> Turns:
    """Take the chat template of a tokenizer apart.

    Raises InputError, naming the directory `where` it is from and the remedy, for a tokenizer without a
    template, or with one that refuses a single question or writes its answer elsewhere than after it.
    """
    question = {"role": "user", "content": QUESTION}
    try:
        asked = render_chat(tokenizer, [question], add_generation_prompt=True)
        whole = render_chat(tokenizer, [question, {"role": "assistant", "content": ANSWER}])
    except TemplateRefusalError as error:
        raise InputError(
            f"{where}: its tokenizer has no chat template for a question ({error}); {remedy}"
        ) from None
    before, _, between = asked.partition(QUESTION)
    _, found, after = whole.partition(ANSWER)
    if not between or not found:
        raise InputError(
            f"{where}: its chat template does not write the words of a turn as they are; {remedy}"
        )
    return Turns(before, between, after)


def no_turns() -> Turns:
    """What stands for a template where there is none."""
    raise InputError(f"the text has dialogues, which need a chat template; {NO_DIALOGUES}")
