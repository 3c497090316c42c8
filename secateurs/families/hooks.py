"""Forward hooks, and other forwards, that are gone again when the work they were for is done."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

Before = tuple[nn.Module, Callable[[nn.Module, tuple[Any, ...]], Any]]
"""A module, and what is called with it and its positional arguments before its forward. A value that is not
None takes the place of the arguments."""

After = tuple[nn.Module, Callable[[nn.Module, tuple[Any, ...], Any], Any]]
"""A module, and what is called with it, its arguments and its output after its forward. A value that is not
None takes the place of the output."""


@contextmanager
def hooked(before: Iterable[Before] = (), after: Iterable[After] = ()) -> Iterator[None]:
    """Register hooks, and remove them when the context is left, on an error too."""
    with ExitStack() as registered:
        for module, hook in before:
            registered.enter_context(module.register_forward_pre_hook(hook))
        for module, hook_after in after:
            registered.enter_context(module.register_forward_hook(hook_after))
        yield


@contextmanager
def wrapped(
    modules: Iterable[nn.Module], wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """In the context each module's forward is `wrap` of what it was."""
    # accelerate may have replaced a forward by a function of its own, which must come back.
    before = [(module, vars(module).get("forward")) for module in modules]
    for module, _ in before:
        module.forward = wrap(module.forward)
    try:
        yield
    finally:
        for module, forward in before:
            del module.forward
            if forward is not None:
                module.forward = forward
