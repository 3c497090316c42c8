"""Tool: talk to a checkpoint, to see what measures do not show."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextStreamer, set_seed

from secateurs.devices.placement import place
from secateurs.endings import printable
from secateurs.errors import InputError
from secateurs.families.boundaries import prompt_ids
from secateurs.families.decoder import context_length
from secateurs.families.tokenizing import encode
from secateurs.inference.plain import plain_generation
from secateurs.text.chat_template import render_chat
from stages.common.artifacts import read_json
from stages.common.checkpoints import load_model, load_tokenizer
from stages.common.console import stage

Turn = dict[str, str]


@stage
@click.argument("checkpoint", type=click.Path(path_type=Path), default="data/pruned")
@click.option("--max-tokens", type=click.IntRange(min=1), default=200, show_default=True, help="Of a reply.")
@click.option(
    "--temperature", type=click.FloatRange(min=0), default=0.7, show_default=True, help="0: the likeliest."
)
@click.option(
    "--top-p",
    type=click.FloatRange(min=0, min_open=True, max=1),
    default=1.0,
    show_default=True,
    help="Draw among the likeliest tokens that together have this probability.",
)
@click.option("--system", default="", help="What the model is told before the conversation.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(checkpoint: Path, max_tokens: int, temperature: float, top_p: float, system: str, seed: int) -> None:
    """Answer each line of input, in turns by the checkpoint's chat template; without one, go on with it.

    /clear (or an empty line) starts afresh, /system TEXT says what the model is told first, /exit ends.
    """
    if not (checkpoint / "config.json").exists():
        raise InputError(
            f"{checkpoint}: no checkpoint there; `make repro` leaves the pruned model in data/pruned"
        )
    set_seed(seed)
    tokenizer = load_tokenizer(checkpoint)
    model = place(load_model(checkpoint, _dtype(checkpoint)), "auto")
    if sys.stdin.isatty():
        kind = "chat" if tokenizer.chat_template else "no chat template: it goes on with what you write"
        click.echo(f"{checkpoint} ({kind}); /clear, /system TEXT, /exit; Ctrl-C stops a reply.", err=True)
    turns = _beginning(system)
    for line in _lines():
        command, _, rest = line.partition(" ")
        if command == "/exit":
            return
        if command == "/system":
            system = rest.strip()
        if command in {"", "/clear", "/system"}:
            turns = _beginning(system)
            continue
        if line.startswith("/"):
            click.echo(f"{command}: not a command; there are /clear, /system TEXT and /exit", err=True)
            continue
        turns = _fitting([*turns, {"role": "user", "content": line}], model, tokenizer, max_tokens)
        reply = _reply(_encode(turns, tokenizer), model, tokenizer, max_tokens, temperature, top_p)
        # A model without a template has no turns: every line is a beginning of its own.
        turns = [*turns, {"role": "assistant", "content": reply}] if tokenizer.chat_template else []


def _beginning(system: str) -> list[Turn]:
    return [{"role": "system", "content": system}] if system else []


def _dtype(checkpoint: Path) -> str:
    """The dtype that a checkpoint was saved in, by its config; older ones call it `torch_dtype`."""
    config = read_json(checkpoint / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def _lines() -> Iterator[str]:
    """Lines of the terminal, which can be edited and called back, or of whatever is piped in."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.rstrip("\n")
        return
    # Importing it gives `input` its editing; Windows has none.
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")
    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            # Nothing is being written: what was typed is dropped, as in a shell.
            click.echo(err=True)
        except EOFError:
            return


def _encode(turns: list[Turn], tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """The prompt, int64 [1, tokens]."""
    if tokenizer.chat_template:
        text = render_chat(tokenizer, turns, add_generation_prompt=True)
        (ids,) = encode(tokenizer, [text])
    else:
        ids = prompt_ids(tokenizer, turns[-1]["content"])
    return torch.tensor([ids])


def _fitting(
    turns: list[Turn], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> list[Turn]:
    """The latest turns that leave room for a reply in the model's context."""
    context = context_length(model.config)
    while _encode(turns, tokenizer).shape[1] + max_tokens > context:
        told = [turn for turn in turns if turn["role"] == "system"]
        if len(turns) == len(told) + 1:
            raise InputError(
                f"this line and --max-tokens {max_tokens} are over the context of {context} tokens"
            )
        turns = [*told, *turns[len(told) + 2 :]]
    return turns


@torch.inference_mode()
def _reply(
    prompt: torch.Tensor,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    temperature: float,
    top_p: float,
) -> str:
    """Write the reply to stdout, word by word as it comes, and return it; Ctrl-C ends it where it is."""
    sampling: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_p": top_p}
        if temperature
        else {"do_sample": False}
    )
    generator: Any = model  # transformers adds `generate` to its classes out of the type checker's sight
    streamer = _Recorder(tokenizer, skip_prompt=True, skip_special_tokens=True)
    try:
        with plain_generation(model, tokenizer, max_tokens, **sampling) as settings:
            generator.generate(
                input_ids=prompt.to(model.device),
                attention_mask=torch.ones_like(prompt).to(model.device),
                generation_config=settings,
                streamer=streamer,
            )
    except KeyboardInterrupt:
        click.echo(" (stopped)")
    return "".join(streamer.written)


class _Recorder(TextStreamer):
    """Writes what it is given, and keeps it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.written: list[str] = []

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.written.append(text)
        super().on_finalized_text(printable(text), stream_end)


if __name__ == "__main__":
    main()
