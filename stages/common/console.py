"""What every stage shows on a terminal: its command line, progress bars, errors."""

import functools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec

import click

from secateurs.endings import plain_endings, printable
from secateurs.errors import InputError
from secateurs.evaluation.units import duration
from stages.common.locks import release
from stages.common.stopwatch import note, started
from stages.params.file import in_file

P = ParamSpec("P")


def stage(function: Callable[P, None]) -> click.Command:
    """Make a click command of a stage; InputError becomes one message without a traceback, exit status 1."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        # Otherwise tokenizers prints a warning about a fork, which users can do nothing about.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # A panic of tokenizers is said in one line; where in its code, users can do nothing about either.
        os.environ.setdefault("RUST_BACKTRACE", "0")
        begun = time.time()
        try:
            with plain_endings():
                function(*args, **kwargs)
                note(begun)
        except InputError as error:
            raise click.ClickException(printable(in_file(error))) from None
        finally:
            release()

    return click.command(help=function.__doc__)(run)


def summary(stage_name: str, text: str) -> None:
    """The one line that a stage prints when it is done: what, how much, and how long.

    The time is measured from the start of the process, so it includes the imports.
    """
    click.echo(f"{stage_name}: {printable(text)} ({duration(time.time() - started())})")


def headline(rows: Iterable[Sequence[str]]) -> None:
    """Print the table of a run: what is measured, the dense model, the other one, their ratio."""
    for name, dense, other, ratio in rows:
        click.echo(f"{name:<28}{dense:>17}{other:>17}   {ratio}".rstrip())
