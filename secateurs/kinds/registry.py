"""The kinds of things that can go, a line each, in the order in which data flows through a decoder layer."""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from secateurs.kinds.kind import Kind

NAMES = (
    "attention_blocks",
    "attention",
    "query_heads",
    "mlp",
    "experts",
    "blocks",
)


@cache
def kinds() -> Mapping[str, "Kind"]:
    """Every kind by its name, in the order of NAMES: the object KIND of the file of that name."""
    # Not at the top, because the types of params.yaml ask for the names alone, and torch takes seconds.
    return {name: import_module(f"secateurs.kinds.{name}").KIND for name in NAMES}


def units(names: Collection[str]) -> str:
    """What goes where these kinds do, in words: channels and KV groups."""
    return " and ".join(kind.unit for name, kind in kinds().items() if name in names)


def exclusions(names: Collection[str]) -> Iterator[str]:
    """Why some of these kinds cannot go together, once for each two of them."""
    there = [name for name in kinds() if name in names]
    for number, name in enumerate(there):
        for other in there[number + 1 :]:
            reason = kinds()[name].excludes.get(other) or kinds()[other].excludes.get(name)
            if reason is not None:
                yield reason
