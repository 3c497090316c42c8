"""The arguments of `secateurs prune` and `secateurs init`, which mean the same to both."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from secateurs.errors import InputError
from secateurs.order import ASKING, Order, Source
from secateurs.order_recovery import PREFIX, recovery_of
from secateurs.order_tasks import tasks_of
from secateurs.settings.method import settings_of
from secateurs.settings.sources import GENERATED

# Of a domain's name. Params.yaml takes 100 letters, and these names mean something else there, or to DVC.
_LONGEST = 80
_TAKEN = (*GENERATED, "size", "nfiles")
DEVICE, TOKENS = "auto", 256
# Of which one is predicted.
_FEWEST = 2
F = TypeVar("F", bound=Callable[..., Any])
_ARGUMENTS = (
    click.argument("model"),
    click.option("--text", multiple=True, required=True, metavar="PATH[:FIELD]",
                 help="A file, glob or folder of your text, a domain each; FIELD is the column of JSON "
                 "lines, CSV or Parquet."),
    click.option("--sparsity", type=float,
                 help="Share of the decoder's parameters to remove.  [default: 0.2]"),
    click.option("--device", default=DEVICE, show_default=True,
                 help="auto, cpu, cuda, cuda:N, mps or sharded."),
    click.option("--tokens", default=TOKENS, show_default=True, help="Tokens of a calibration sequence."),
    click.option("--export", help="Of a GGUF file for llama.cpp too: f16, q8_0, q4_k_m, ..."),
    click.option("--recover", metavar="TIME",
                 help="Train what is left towards the dense model for so long: 90s, 10m, 1h."),
    click.option("--eval", metavar="TASK,...",
                 help="Tasks that both models are scored on: of lm-eval (gsm8k), or by items of your own "
                 "(gsm8k=items.jsonl)."),
    click.option("--limit", default=0, show_default=True, help="Items of a task; 0 takes all."),
    click.option("--run-generated-code", is_flag=True,
                 help="Let --eval run the programs that the model writes, on this machine."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                 help="Any other setting of the method, as params.yaml names it, its value as JSON or a "
                 "word: --set mask.metric=wanda."),
)  # fmt: skip


def arguments(function: F) -> F:
    """Give a click command the arguments of an order; `order_of` takes what it is called with."""
    for argument in reversed(_ARGUMENTS):
        function = argument(function)
    return function


def order_of(
    *,
    model: str,
    text: tuple[str, ...],
    sparsity: float | None = None,
    device: str = DEVICE,
    tokens: int = TOKENS,
    settings: Mapping[str, Any] | tuple[str, ...] = (),
    **others: Any,
) -> Order:
    """The order that values of `arguments` make; settings also as a mapping of values by their keys.

    others: `export`, `recover`, and what tasks are asked and how; each may be left out.

    Raises InputError for one that cannot be read, and for settings that nothing can have.
    """
    if tokens < _FEWEST:
        raise InputError(f"--tokens: {tokens}: a sequence needs at least {_FEWEST}")
    changes = dict(settings) if isinstance(settings, Mapping) else dict(map(_setting, settings))
    if sparsity is not None:
        changes["prune.sparsity"] = sparsity
    changes["device"] = device
    trained = {key: changes.pop(key) for key in list(changes) if key.startswith(PREFIX)}
    minutes = others.get("recover")
    if trained and minutes is None:
        raise InputError(f"--set: {next(iter(trained))}: nothing is recovered; add --recover 10m")
    if minutes is not None and device == "sharded":
        raise InputError(f"--recover: --device {device}: a recovery needs one device; use auto")
    run, named = others.get("run_generated_code", False), others.get("eval")
    return Order(
        model,
        _sources(text),
        settings_of(changes),
        tokens,
        others.get("export"),
        None if minutes is None else recovery_of(minutes, trained),
        {} if named is None else tasks_of(named, run),
        replace(ASKING, limit=_limit(others.get("limit", 0)), run_generated_code=run),
    )


def _limit(items: int) -> int:
    if items < 0 or items == 1:
        raise InputError(f"--limit: {items}: a standard error needs at least 2 items; 0 takes all")
    return items


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"--set: {text}: write KEY=VALUE, such as mask.metric=wanda")
    try:
        return key, json.loads(value)
    except ValueError:
        if value[:1] in ("[", "{"):
            raise InputError(f"--set: {text}: not JSON; put text in it in double quotes") from None
        return key, value


def _sources(texts: tuple[str, ...]) -> tuple[Source, ...]:
    found: dict[str, Source] = {}
    for text in texts:
        path, field = text, None
        if not Path(text).exists() and ":" in text:
            path, _, field = text.rpartition(":")
        marks = (mark if mark.isascii() and mark.isalnum() else "_" for mark in Path(path).stem)
        name = "".join(marks)[:_LONGEST] or "text"
        name = name if name[0].isalpha() and name not in _TAKEN else f"text_{name}"
        while name in found:
            name += "_"
        found[name] = Source(name, path, field)
    return tuple(found.values())
