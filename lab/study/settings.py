"""From the settings of a point to the params that they make, and from those to what `dvc exp run` takes."""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from secateurs.errors import InputError
from secateurs.settings.pruning import TARGETS
from stages.planning.curve import chained_rounds

Tree = dict[str, Any]
"""params.yaml as it is read: mappings within mappings."""

PLAIN = re.compile(r"[A-Za-z_][\w.-]*")


def changed(params: Mapping[str, Any], settings: Mapping[str, Any]) -> Tree:
    """A copy of the params with settings made, in their order: `a.b: value`, or one of two short forms.

    rounds: 4        four equal rounds instead of those there are
    only: news       this domain alone, of which it reads as many tokens as all domains of the mix together
    Raises InputError for a key that the params lack.
    """
    tree: Tree = copy.deepcopy(dict(params))
    for key, value in settings.items():
        if key == "rounds":
            tree["rounds"] = chained_rounds(value)
            tree["surgery"]["after"] = list(tree["rounds"])[-1]
        elif key == "only":
            _keep_only(tree, value)
        else:
            *groups, last = key.split(".")
            group: Any = tree
            for name in groups:
                group = group.get(name) if isinstance(group, dict) else None
            target = groups == ["prune"] and last in TARGETS
            if not isinstance(group, dict) or (last not in group and not target):
                raise InputError(f"{key}: not a key of params.yaml")
            group[last] = value
            if target:
                # A target takes the place of the one that there is.
                for other in set(TARGETS) - {last}:
                    group.pop(other, None)
    return tree


def _keep_only(tree: Tree, domain: str) -> None:
    """Give the domain the whole mixture, and as many sequences as all domains of the mixture had together."""
    mixture = tree["mixture"]
    if domain not in mixture:
        raise InputError(f"only: {domain}: no such domain; domains are {', '.join(mixture)}")
    together = sum(weight > 0 for weight in mixture.values())
    for group in ("capture", "surgery"):
        tree[group]["sequences"] *= together
    tree["mixture"] = {name: 1.0 if name == domain else 0.0 for name in mixture}


def overrides(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What `dvc exp run` takes after `-S`, one by one, to make the params `after` of `before`."""
    return list(_differences(before, after, ""))


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[str]:
    for name in [*before, *(name for name in after if name not in before)]:
        key = f"{at}{name}"
        if name not in after:
            yield f"~{key}"
        elif name not in before:
            yield f"+{key}={_written(after[name])}"
        elif isinstance(before[name], dict) and isinstance(after[name], dict):
            yield from _differences(before[name], after[name], f"{key}.")
        elif before[name] != after[name]:
            yield f"{key}={_written(after[name])}"


def _written(value: Any) -> str:
    """A value in the grammar of `-S`."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list():
            return f"[{','.join(map(_written, value))}]"
        case dict():
            return f"{{{', '.join(f'{name}: {_written(one)}' for name, one in value.items())}}}"
        case str() if PLAIN.fullmatch(value):
            return value
    raise InputError(f"{value!r}: a study sets numbers, names, lists and mappings of them only")
