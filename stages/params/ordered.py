"""params.yaml for what the arguments of `secateurs prune` ask for: the same settings, its comments kept."""

import io
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from secateurs.order import Order, corpus_of, model_source, text_domain
from secateurs.settings.base import Group
from secateurs.settings.method import Settings
from secateurs.settings.pruning import TARGETS
from secateurs.settings.sources import GENERATED
from stages.params.file import PARAMS_FILE
from stages.params.overlay import WHOLE, overlaid
from stages.params.rounds import DENSE
from stages.params.yaml_file import parse_yaml

MADE = "# Written by: "


def ordered(base: str, order: Order, dtype: str, command: str) -> str:
    """The text of params.yaml, `base`, with an order's model, text and settings in it.

    What an order does not say stays. dtype: of the computation.
    command: what was typed, for the first line.
    """
    values, there = _values(order, dtype), parse_yaml(str(PARAMS_FILE), base)
    whole = {group: values.pop(group) for group in WHOLE}
    # A group that stays as it is keeps its comments.
    changed = {group: value for group, value in whole.items() if value != there.get(group)}
    text = overlaid(base, _dumped(changed), "secateurs init")
    if text.startswith(MADE):
        text = text.partition("\n")[2]
    data = _yaml().load(text)
    # A target takes the place of another one, below the comment that says so.
    for target in TARGETS:
        if target not in values["prune"]:
            data["prune"].pop(target, None)
        elif target not in data["prune"]:
            data["prune"].insert(0, target, values["prune"][target])
    _put(data, values)
    return f"{MADE}{command}\n{_dumped(data)}"


def _values(order: Order, dtype: str) -> dict[str, Any]:
    settings = order.settings
    domains = {source.domain: _plain(text_domain(source)) for source in order.sources}
    names = list(settings.rounds)
    return {
        "model": _plain(model_source(order.model)),
        "domains": domains,
        # Items take calibration text away that overlaps with them, so that none are added to those asked for.
        "benchmarks": {task: one.model_dump() for task, one in order.tasks.items()},
        "mixture": (settings.mixture or dict.fromkeys(domains, 1.0)) | dict.fromkeys(GENERATED, 0.0),
        "rounds": {
            name: {"after": after, "progress": settings.rounds[name]}
            for after, name in pairwise([DENSE, *names])
        },
        "corpus": corpus_of(order).model_dump(),
        "compute": {"device": settings.device, "dtype": dtype},
        **_method(settings),
        "evaluate": _asking(order) if order.tasks else {},
        "recover": {} if order.recovery is None else order.recovery.model_dump(),
        "export": {} if order.precision is None else {"precision": order.precision},
    }


def _asking(order: Order) -> dict[str, Any]:
    asking = order.asking
    return {name: getattr(asking, name) for name in ("limit", "seed", "run_generated_code")}


def _method(settings: Settings) -> dict[str, Any]:
    return {
        "capture": settings.capture.model_dump(),
        "mask": settings.mask.model_dump(),
        "prune": settings.prune.model_dump(),
        "surgery": {"after": list(settings.rounds)[-1], **settings.surgery.model_dump()},
    }


def _plain(group: Group) -> dict[str, Any]:
    given = group.model_dump(exclude_none=True)
    return {"source": given.pop("source"), **given}


def _put(old: CommentedMap, new: Mapping[str, Any]) -> None:
    """Give a mapping, in place, the values of another one; what does not change keeps how it is written."""
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), CommentedMap) and old[key]:
            _put(old[key], value)
        elif old.get(key) != value:
            old[key] = value


def _dumped(data: Mapping[str, Any]) -> str:
    text = io.StringIO()
    _yaml().dump(data, text)
    return text.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    return yaml
