"""The arguments of `secateurs prune` and `secateurs init`, which mean the same to both."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from secateurs.errors import InputError
from secateurs.order import Order, Source
from secateurs.settings.method import settings_of
from secateurs.settings.sources import GENERATED

# Of a domain's name. Params.yaml takes 100 letters, and these names mean something else there, or to DVC.
_LONGEST = 80
_TAKEN = (*GENERATED, "size", "nfiles")
DEVICE, TOKENS = "auto", 256
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
    export: str | None = None,
    settings: Mapping[str, Any] | tuple[str, ...] = (),
) -> Order:
    """The order that values of `arguments` make; settings also as a mapping of values by their keys.

    Raises InputError for one that cannot be read, and for settings that nothing can have.
    """
    changes = dict(settings) if isinstance(settings, Mapping) else dict(map(_setting, settings))
    if sparsity is not None:
        changes["prune.sparsity"] = sparsity
    changes["device"] = device
    return Order(model, _sources(text), settings_of(changes), tokens, export)


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
