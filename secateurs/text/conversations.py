"""Conversations as fine-tuning sets hold them, and as a model's chat template writes them.

A reader does not know the model, so a conversation goes through data/sources as JSON; the corpus stage, which
has the tokenizer, renders it. Only what its turns say can overlap other text, not the template's own words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from secateurs.errors import InputError, SettingError
from secateurs.text.chat_template import TemplateRefusalError, render_chat
from secateurs.text.documents import Document

# For its type alone: it takes seconds to import, and who only reads conversations needs no tokenizer.
if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turn = dict[str, str]
Render = Callable[[str], str]


# What data sets call the speakers of a turn, where its keys are `from` and `value`.
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}


def to_json(where: str, messages: Any) -> str:
    """A conversation, a list of turns, as JSON of `role` and `content`. InputError naming `where` for others.

    A turn has a role and a content, or the keys `from` and `value`; a content is text, or a list of parts of
    text. Other keys of a turn (names, tool calls) are left out; a turn without words is, too.
    """
    turns = [_turn(one) for one in messages] if isinstance(messages, list) else [None]
    if None in turns:
        raise InputError(
            f"{where}: not a conversation; it must be a list of turns with a role and a content, or with "
            "`from` and `value`, of text alone"
        )
    spoken = [turn for turn in turns if turn is not None and turn["content"]]
    return json.dumps(spoken, ensure_ascii=False) if spoken else ""


def _turn(turn: Any) -> Turn | None:
    """A turn as `role` and `content`, or None for what is none."""
    if not isinstance(turn, dict):
        return None
    role, content = turn.get("role"), turn.get("content", ...)
    if role is None and content is ...:
        role, content = turn.get("from"), turn.get("value", ...)
        role = _ROLES.get(role, role) if isinstance(role, str) else None
    if isinstance(content, list):
        parts = [_part(one) for one in content]
        content = ... if None in parts else "\n".join(part for part in parts if part)
    if not isinstance(role, str) or not isinstance(content, str | None):
        return None
    return {"role": role, "content": content or ""}


def _part(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else None
    return text if isinstance(text, str) else None


class ConversationRefusedError(InputError):
    """The chat template does not take a conversation."""


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
            raise ConversationRefusedError(f"the model's chat template refuses it: {error}") from None

    return render


def no_template(conversation: str) -> str:
    """What stands for a template where there is none: InputError."""
    raise SettingError(
        "domains: a field of conversations needs a chat template, and the model's tokenizer has "
        "none; name a field of text, or another model"
    )


def check_conversations(domain: str, documents: Iterable[Document], render: Render, may_drop: bool) -> None:
    """Raise SettingError at a domain's first conversation that the template refuses, unless it may go."""
    for item in documents:
        if item.chat and not may_drop:
            rendered(domain, item, render)


def rendered(domain: str, item: Document, render: Render) -> str:
    """A conversation's text. Raises SettingError, naming domain and row, where the template refuses it."""
    try:
        return render(item.text)
    except ConversationRefusedError as error:
        raise SettingError(
            f"domains.{domain}: {item.document}: {error}; correct the row, or have such rows left out and "
            f"counted: domains.{domain}.refused: drop"
        ) from None
