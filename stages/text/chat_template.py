"""A model's chat template, run within limits: it is a program that comes with the model.

transformers runs it in Jinja's sandbox, from which it cannot reach the machine, but in which it can loop for
ever or fill the memory. A process of its own has so much of both and no more.
"""

import json
import multiprocessing
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import psutil
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from stages.common.errors import InputError

SECONDS = 10.0
MEMORY = 2**30


class TemplateRefusalError(InputError):
    """The template says itself that it does not take such turns."""


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
) -> str:
    """The text that a tokenizer's chat template makes of turns, each with `role` and `content`.

    Raises TemplateRefusalError with what the template says where it refuses them, InputError where it takes
    more than SECONDS or MEMORY bytes.
    """
    options = {
        "add_generation_prompt": add_generation_prompt,
        "continue_final_message": continue_final_message,
    }
    # A copy of this process has the tokenizer already: to start another one would take seconds.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_render, args=(sender, tokenizer, turns, options))
    process.start()
    sender.close()
    try:
        if not receiver.poll(SECONDS):
            raise InputError(f"the model's chat template takes more than {SECONDS:g} s; {_REMEDY}")
        answer = json.loads(receiver.recv_bytes())
    except EOFError:
        raise InputError(f"the model's chat template takes more than {MEMORY:,} bytes; {_REMEDY}") from None
    finally:
        process.kill()
        process.join()
    if "text" not in answer:
        raise TemplateRefusalError(answer["refused"])
    return str(answer["text"])


_REMEDY = "take `chat_template` out of the model's files, or use another model"


def _render(
    sender: Connection,
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Mapping[str, str]],
    options: Mapping[str, bool],
) -> None:
    # Where the system cannot limit memory, time is limited alone.
    with suppress(ValueError, OSError):
        most = psutil.Process().memory_info().vms + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        conversation = [dict(turn) for turn in turns]
        # transformers' types have one value for all options.
        given: dict[str, Any] = dict(options)
        text = tokenizer.apply_chat_template(conversation, tokenize=False, **given)
        answer = {"text": str(text)}
    except MemoryError:
        return
    except (TemplateError, ValueError, TypeError, KeyError, OverflowError) as error:
        answer = {"refused": (str(error).strip() or type(error).__name__).splitlines()[0]}
    sender.send_bytes(json.dumps(answer).encode())
