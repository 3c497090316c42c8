"""Tool: talk to a checkpoint, to see what measures do not show."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextStreamer, set_seed

from stages.checkpoints.devices import place
from stages.checkpoints.loading import load_model, load_tokenizer
from stages.common.console import stage
from stages.common.errors import InputError

Turn = dict[str, str]


@stage
@click.argument("checkpoint", type=click.Path(path_type=Path), default="data/pruned")
@click.option("--max-tokens", type=click.IntRange(min=1), default=200, show_default=True, help="Of a reply.")
@click.option(
    "--temperature", type=click.FloatRange(min=0), default=0.7, show_default=True, help="0: the likeliest."
)
@click.option("--seed", type=int, default=0, show_default=True)
def main(checkpoint: Path, max_tokens: int, temperature: float, seed: int) -> None:
    """Answer each line of input, in turns by the checkpoint's chat template; without one, go on with it."""
    if not (checkpoint / "config.json").exists():
        raise InputError(
            f"{checkpoint}: no checkpoint there; `make repro` leaves the pruned model in data/pruned"
        )
    set_seed(seed)
    tokenizer = load_tokenizer(checkpoint)
    model = place(load_model(checkpoint, "float32"), "auto")
    if sys.stdin.isatty():
        kind = "chat" if tokenizer.chat_template else "no chat template: it goes on with what you write"
        click.echo(f"{checkpoint} ({kind}); an empty line starts afresh, Ctrl-D ends.", err=True)
    turns: list[Turn] = []
    for line in _lines():
        if not line:
            turns = []
            continue
        turns = _fitting([*turns, {"role": "user", "content": line}], model, tokenizer, max_tokens)
        reply = _reply(_encode(turns, tokenizer), model, tokenizer, max_tokens, temperature)
        # A model without a template has no turns: every line is a beginning of its own.
        turns = [*turns, {"role": "assistant", "content": reply}] if tokenizer.chat_template else []


def _lines() -> Iterator[str]:
    """Lines of the terminal or of whatever is piped in, without their ends."""
    while True:
        if sys.stdin.isatty():
            click.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        yield line.rstrip("\n")


def _encode(turns: list[Turn], tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """The prompt, int64 [1, tokens]."""
    if tokenizer.chat_template:
        encoded: Any = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        encoded = tokenizer(turns[-1]["content"], return_tensors="pt")
    ids: torch.Tensor = encoded["input_ids"]
    return ids


def _fitting(
    turns: list[Turn], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> list[Turn]:
    """The latest turns that leave room for a reply in the model's context."""
    context = model.config.max_position_embeddings
    while _encode(turns, tokenizer).shape[1] + max_tokens > context:
        if len(turns) == 1:
            raise InputError(
                f"this line and --max-tokens {max_tokens} are over the context of {context} tokens"
            )
        turns = turns[2:]
    return turns


@torch.inference_mode()
def _reply(
    prompt: torch.Tensor,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    temperature: float,
) -> str:
    """Write the reply to stdout, word by word as it comes, and return it."""
    sampling: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature}
        if temperature
        # A checkpoint may come with sampling settings of its own; they have no part in greedy decoding.
        else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    )
    generator: Any = model  # transformers adds `generate` to its classes out of the type checker's sight
    output = generator.generate(
        input_ids=prompt.to(model.device),
        attention_mask=torch.ones_like(prompt).to(model.device),
        max_new_tokens=max_tokens,
        pad_token_id=tokenizer.eos_token_id,
        streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True),
        **sampling,
    )
    text = tokenizer.decode(output[0, prompt.shape[1] :], skip_special_tokens=True)
    assert isinstance(text, str)
    return text


if __name__ == "__main__":
    main()
