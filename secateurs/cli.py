"""The program `secateurs`: a model and your text in, a smaller checkpoint out, by one command."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from secateurs.arguments import arguments, order_of
from secateurs.endings import plain_endings
from secateurs.errors import InputError

# What writes params.yaml. It is part of the pipeline, which a clone has, and of no wheel.
INIT = "stages.init"
NO_CLONE = (
    "init: no pipeline here: it is no part of the installed package; clone the repository of Secateurs, "
    "run `make setup` there, and then this command in the clone"
)


@click.group()
def main() -> None:
    """Make large language models smaller by removing whole structures."""


@main.command()
@arguments
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write; a GGUF file goes beside it, as OUT.gguf.")  # fmt: skip  # noqa: E501
def prune(out: Path, **given: Any) -> None:
    """Prune MODEL, a folder, a GGUF file or an id on the hub, by TEXT, and write the result to OUT."""
    try:
        with plain_endings():
            order = order_of(**given)
            if out.exists():
                raise InputError(f"--out: {out}: is there already; name another folder, or delete it")
            gguf = out.with_name(f"{out.name}.gguf")
            if order.precision is not None and gguf.exists():
                raise InputError(f"--export: {gguf}: is there already; name another --out, or delete it")
            texts = ", ".join(source.domain for source in order.sources)
            click.echo(f"{order.model} is pruned by {texts} into {out} …")
            # Not at the top, because torch takes seconds, and `--help` and a wrong option need none of it.
            from secateurs.command import prune_to

            prune_to(order, out, click.echo)
    except InputError as error:
        raise click.ClickException(str(error)) from None


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("given", nargs=-1, type=click.UNPROCESSED)
def init(given: tuple[str, ...]) -> None:
    """In a clone: write params.yaml, so that the pipeline prunes as `secateurs prune` would."""
    if not Path(*INIT.split(".")).with_suffix(".py").is_file():
        raise click.ClickException(NO_CLONE)
    sys.exit(subprocess.run([sys.executable, "-m", INIT, *given], check=False).returncode)


if __name__ == "__main__":
    main()
