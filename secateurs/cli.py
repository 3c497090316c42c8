"""The program `secateurs`: a model and your text in, a smaller checkpoint out, by one command."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from secateurs.api import prune
from secateurs.arguments import arguments
from secateurs.endings import plain_endings, printable, short_endings
from secateurs.errors import InputError

# What writes params.yaml. It is part of the pipeline, which a clone has, and of no wheel.
INIT = "stages.init"
NO_CLONE = (
    "init: no pipeline here: it is no part of the installed package; clone the repository of Secateurs, "
    "run `make setup` there, and then this command in the clone"
)

short_endings()


@click.group()
def main() -> None:
    """Make large language models smaller by removing whole structures."""
    for given in sys.argv[1:]:
        try:
            given.encode()
        except UnicodeEncodeError:
            raise click.ClickException(
                f"{printable(given)}: Python takes arguments as ASCII here; set PYTHONUTF8=1"
            ) from None


@main.command(name="prune")
@arguments
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write; a GGUF file goes beside it, as OUT.gguf.")  # fmt: skip  # noqa: E501
def prune_command(**given: Any) -> None:
    """Prune MODEL, a folder, a GGUF file or an id on the hub, by TEXT, and write the result to OUT."""
    try:
        with plain_endings():
            prune(**given, say=lambda line: click.echo(printable(line)))
    except InputError as error:
        raise click.ClickException(printable(str(error))) from None


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("given", nargs=-1, type=click.UNPROCESSED)
def init(given: tuple[str, ...]) -> None:
    """In a clone: write params.yaml, so that the pipeline prunes as `secateurs prune` would."""
    if not Path(*INIT.split(".")).with_suffix(".py").is_file():
        raise click.ClickException(NO_CLONE)
    sys.exit(subprocess.run([sys.executable, "-m", INIT, *given], check=False).returncode)


if __name__ == "__main__":
    main()
