"""Make large language models smaller by removing whole structures.

`prune` does what the program `secateurs prune` does; `prune_model` is the method alone, in memory.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secateurs.api import prune
    from secateurs.pruner import prune_model

__all__ = ["prune", "prune_model"]

_MODULES = {"prune": "api", "prune_model": "pruner"}


# Only when they are asked for, because torch takes seconds to import and much of the package does without.
def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"secateurs.{_MODULES[name]}"), name)
