"""What a terminal is shown, and how a program ends that is interrupted or can write no more: by one line."""

import _thread
import atexit
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from secateurs.errors import InputError
from secateurs.files.full_disk import room_for

_OUTPUT = "what is written or printed"


def short_endings() -> None:
    """From now on one line is said too where nothing else handles an interruption or a stdout that is full.

    So it is while a program imports what it needs, for seconds, and while it prints its help. What an
    encoding of the terminal lacks is shown as `?`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _said


def _said(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("Aborted!", file=sys.stderr)
        return
    try:
        with room_for(_OUTPUT):
            raise error
    except InputError as full:
        print(f"Error: {full}", file=sys.stderr)
        _forget_stdout()
    except BaseException:
        sys.__excepthook__(kind, error, trace)


def printable(text: str) -> str:
    """Text for a terminal: of what cannot be seen, and a terminal may obey, line ends and tabs alone stay."""
    shown = (mark if mark.isprintable() or mark in "\n\t" else "\N{REPLACEMENT CHARACTER}" for mark in text)
    return "".join(shown)


@contextmanager
def plain_endings() -> Iterator[None]:
    """InputError in it where a disk is full; an interruption that Python would lose comes again.

    A KeyboardInterrupt in the middle of a destructor is printed and dropped, and the program would go on to
    status 0.
    """
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _again
        # While the interpreter is being taken down, nothing is left to interrupt.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        with room_for(_OUTPUT):
            yield
            # Without a file descriptor for it (`>&-`) there is no stdout at all.
            if sys.stdout is not None:
                sys.stdout.flush()
    except InputError:
        _forget_stdout()
        raise


def _again(lost: Any) -> None:
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # Once this function, in which it would be lost as well, is over.
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(lost)


def _forget_stdout() -> None:
    """Where it is stdout that is full, what is left in its buffer must not be tried again at the end."""
    with suppress(OSError, ValueError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
