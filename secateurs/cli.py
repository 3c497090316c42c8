"""The program `secateurs`: a model and your text in, a smaller checkpoint out, by one command."""

import json
from pathlib import Path
from typing import Any

import click

from secateurs.errors import InputError
from secateurs.order import Order, Source


@click.group()
def main() -> None:
    """Make large language models smaller by removing whole structures."""


@main.command()
@click.argument("model")
@click.option("--text", "texts", multiple=True, required=True, metavar="PATH[:FIELD]", help="A file, glob or folder of your text, a domain each; FIELD is the column of JSON lines, CSV or Parquet.")  # fmt: skip  # noqa: E501
@click.option("--sparsity", type=float, help="Share of the decoder's parameters to remove.  [default: 0.2]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N, mps or sharded.")
@click.option("--tokens", default=256, show_default=True, help="Tokens of a calibration sequence.")
@click.option("--export", "precision", help="Write OUT.gguf too: f16, q8_0, q4_k_m, ...")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Any other setting of the method, as params.yaml names it, its value as JSON or a word: --set mask.metric=wanda.")  # fmt: skip  # noqa: E501
def prune(**given: Any) -> None:
    """Prune MODEL, a folder, a GGUF file or an id on the hub, by TEXT, and write the result to OUT."""
    # Not at the top, because torch takes seconds, and `--help` and a wrong option need none of it.
    from secateurs.command import prune_to

    try:
        prune_to(_order(**given), click.echo)
    except InputError as error:
        raise click.ClickException(str(error)) from None


def _order(
    model: str,
    texts: tuple[str, ...],
    sparsity: float | None,
    out: Path,
    changes: tuple[str, ...],
    **others: Any,
) -> Order:
    settings = dict(map(_setting, changes))
    if sparsity is not None:
        settings["prune.sparsity"] = sparsity
    settings["device"] = others["device"]
    if out.exists():
        raise InputError(f"--out: {out}: is there already; name another folder, or delete it")
    gguf = out.with_name(f"{out.name}.gguf")
    if others["precision"] is not None and gguf.exists():
        raise InputError(f"--export: {gguf}: is there already; name another --out, or delete it")
    return Order(model, _sources(texts), settings, others["tokens"], out, others["precision"])


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
        name = "".join(mark if mark.isalnum() else "_" for mark in Path(path).stem) or "text"
        name = name if name[0].isalpha() else f"text_{name}"
        while name in found:
            name += "_"
        found[name] = Source(name, path, field)
    return tuple(found.values())


if __name__ == "__main__":
    main()
