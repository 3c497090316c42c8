"""Conversations as fine-tuning sets hold them, and as a model's chat template writes them.

A reader does not know the model, so a conversation goes through data/sources as JSON; the corpus stage, which
has the tokenizer, renders it. Only what its turns say can overlap other text, not the template's own words.
"""

import json
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError, SettingError
from secateurs.text.chat_template import TemplateRefusalError, render_chat

Turn = dict[str, str]
Render = Callable[[str], str]


def to_json(where: str, messages: Any) -> str:
    """A conversation, a list of `role` and `content`, as JSON. InputError naming `where` for anything else.

    Other keys of a turn (names, tool calls) are left out; a turn without words is, too.
    """
    if not isinstance(messages, list) or not all(_is_turn(turn) for turn in messages):
        raise InputError(f"{where}: not a conversation; it must be a list of turns with a role and a content")
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages if turn["content"]]
    return json.dumps(turns, ensure_ascii=False) if turns else ""


def contents(conversation: str) -> list[str]:
    """What each turn says."""
    turns: list[Turn] = json.loads(conversation)
    return [turn["content"] for turn in turns]


def renderer(tokenizer: PreTrainedTokenizerBase) -> Render:
    """A function from a conversation's JSON to the text that the tokenizer's chat template makes of it.

    It raises InputError where the tokenizer has no template, or its template refuses the order of the roles.
    """
    if not tokenizer.chat_template:
        return no_template

    def render(conversation: str) -> str:
        try:
            return render_chat(tokenizer, json.loads(conversation))
        except TemplateRefusalError as error:
            raise InputError(f"the model's chat template refuses a conversation: {error}") from None

    return render


def no_template(conversation: str) -> str:
    """What stands for a template where there is none: InputError."""
    raise SettingError(
        "domains: a field of conversations needs a chat template, and the model's tokenizer has "
        "none; name a field of text, or another model"
    )


def _is_turn(turn: Any) -> bool:
    return (
        isinstance(turn, dict)
        and isinstance(turn.get("role"), str)
        and isinstance(turn.get("content"), str | None)
        and "content" in turn
    )
