"""A model's chat template, run within limits: it is a program that comes with the model.

transformers runs it in Jinja's sandbox, from which it cannot reach the machine, but in which it can loop for
ever or fill the memory. A process of its own has so much of both and no more.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import psutil
from jinja2.exceptions import TemplateError

from secateurs.errors import InputError

# For its type alone: it takes seconds to import.
if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 10.0
MEMORY = 2**30
# The status of a process that reached the limit, and characters of what a template says.
_NO_MEMORY, _MOST_SAID = 3, 200


class TemplateRefusalError(InputError):
    """The template does not take such turns: it says so itself, or fails at them."""


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
) -> str:
    """The text that a tokenizer's chat template makes of turns, each with `role` and `content`.

    Raises TemplateRefusalError with what the template says where it refuses them or fails, InputError where
    it takes more than SECONDS or MEMORY bytes.
    """
    options = {
        "add_generation_prompt": add_generation_prompt,
        "continue_final_message": continue_final_message,
    }
    child = _CHILDREN.get(tokenizer)
    if child is None or child.template != tokenizer.chat_template:
        _let_go(tokenizer)
        child = _CHILDREN[tokenizer] = _Child(tokenizer)
    answer = None
    try:
        answer = child.ask(turns, options)
    finally:
        if answer is None:
            _let_go(tokenizer)
    if "text" not in answer:
        raise TemplateRefusalError(answer["refused"])
    return str(answer["text"])


_REMEDY = "take `chat_template` out of the model's files, or use another model"


class _Child:
    """A copy of this process, which has the tokenizer already, and renders one conversation after the other.

    It ends with this process. To start one for each conversation took a tenth of a second for each.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.template = tokenizer.chat_template
        context = multiprocessing.get_context("fork")
        self.connection, other = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(other, self.connection, tokenizer), daemon=True, name="chat template"
        )
        self.process.start()
        other.close()

    def ask(self, turns: Sequence[Mapping[str, str]], options: Mapping[str, bool]) -> dict[str, Any]:
        """{"text": …} or {"refused": …}; InputError where a limit is reached, after which it is of no use."""
        try:
            self.connection.send_bytes(json.dumps([[dict(turn) for turn in turns], options]).encode())
            if not self.connection.poll(SECONDS):
                raise InputError(f"the model's chat template takes more than {SECONDS:g} s; {_REMEDY}")
            answer: dict[str, Any] = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self.process.join(SECONDS)
            status = self.process.exitcode
            what = f"takes more than {MEMORY:,} bytes"
            if status != _NO_MEMORY:
                what = f"ends the process that renders it (status {status})"
            raise InputError(f"the model's chat template {what}; {_REMEDY}") from None
        return answer

    def stop(self) -> None:
        """End it, whatever it is at."""
        self.connection.close()
        self.process.kill()
        self.process.join()


_CHILDREN: WeakKeyDictionary[PreTrainedTokenizerBase, _Child] = WeakKeyDictionary()


def _let_go(tokenizer: PreTrainedTokenizerBase) -> None:
    child = _CHILDREN.pop(tokenizer, None)
    if child is not None:
        child.stop()


def _serve(connection: Connection, parents: Connection, tokenizer: PreTrainedTokenizerBase) -> None:
    # Held here too, it would keep this process from seeing that the other one is gone.
    parents.close()
    # Ctrl-C is for the other process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Where the system cannot limit memory, time is limited alone.
    with suppress(ValueError, OSError):
        most = psutil.Process().memory_info().vms + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    # With no more than the parent's end gone, there is nobody to tell.
    with suppress(EOFError, ConnectionError):
        while True:
            turns, options = json.loads(connection.recv_bytes())
            try:
                answer = json.dumps(_rendered(tokenizer, turns, options)).encode()
            except MemoryError:
                os._exit(_NO_MEMORY)
            connection.send_bytes(answer)


def _rendered(
    tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], options: dict[str, Any]
) -> dict[str, str]:
    try:
        # transformers' types have one value for all options.
        return {"text": str(tokenizer.apply_chat_template(turns, tokenize=False, **options))}
    except MemoryError:
        raise
    # A program of somebody else's raises what it likes: 1 / 0, a macro that calls itself for ever.
    except Exception as error:
        kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return {"refused": f"{kind}{said}"[:_MOST_SAID]}
