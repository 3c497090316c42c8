"""What depends on the number of experts, found by building the model with twice as many."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from secateurs.families.decoder import text_config
from secateurs.families.family import Count, Mixture, Sublayer
from secateurs.families.fused_experts import OpenExperts, open_experts
from secateurs.families.hooks import hooked
from secateurs.families.trace import Call
from secateurs.families.twins import CHOSEN, CHOSEN_GROUPS, EXPERT_GROUPS, EXPERTS
from secateurs.families.widths import Place, with_entry

# Why a model that is no mixture cannot lose experts.
NO_EXPERTS = "no layer has experts that a router chooses among"


class _RefusedError(Exception):
    """Why experts of a layer cannot go."""


def mixtures_of(
    model: PreTrainedModel, layers: str, places: Sequence[Place], calls: Sequence[Call | None]
) -> tuple[dict[int, Mixture], str | None]:
    """The mixtures of a tiny model by layer, and why experts cannot go if they cannot.

    model: its experts opened; layers: the name of its list of layers; places: the sublayers that were found;
    calls: what each layer is called with. Either all blocks of experts can lose some, or none.
    """
    routed = [(index, sublayer) for index, sublayer in places if sublayer.routed]
    if not routed:
        return {}, NO_EXPERTS
    try:
        if len({index for index, _ in routed}) < len(routed):
            raise _RefusedError("a layer has several blocks of experts")
        return _found(model, layers, dict(routed), calls), None
    except _RefusedError as error:
        return {}, str(error)


def _found(
    model: PreTrainedModel, layers: str, routed: Mapping[int, Sublayer], calls: Sequence[Call | None]
) -> dict[int, Mixture]:
    experts = {
        index: len(list(model.get_submodule(f"{layers}.{index}.{one.block}").children()))
        for index, one in routed.items()
    }
    count, *others = set(experts.values())
    if others:
        raise _RefusedError("its layers have experts of several numbers")
    entry, other = _grown(model, layers, routed, count)
    chosen = _entry(model.config, CHOSEN)
    own = {index: model.get_submodule(f"{layers}.{index}") for index in routed}
    seen = {_chosen(layer, calls[index], routed[index]) for index, layer in own.items()}
    if chosen is None or seen != {number_of(model.config, chosen)}:
        raise _RefusedError(f"no entry of its config says that a token is given to {max(seen)} experts")
    groups, chosen_groups = _entry(model.config, EXPERT_GROUPS), _entry(model.config, CHOSEN_GROUPS)
    rows = _rows(model, other, layers, routed, count)
    return {
        index: Mixture(
            sublayer,
            entry,
            chosen,
            groups,
            chosen_groups if groups else None,
            tuple(rows[index]),
            tuple(_counts(own[index], other.get_submodule(f"{layers}.{index}"), count)),
        )
        for index, sublayer in routed.items()
    }


def experts_of_a_token(config: PretrainedConfig) -> int:
    """How many routed experts a token is given to by the decoder's config; 0 where it does not say."""
    return number_of(config, _entry(config, CHOSEN) or "")


def _entry(config: PretrainedConfig, pattern: str) -> str | None:
    """The entry of the decoder's config with such a name and a number above 0."""
    for name in text_config(config).to_dict():
        if re.search(pattern, name) and number_of(config, name):
            return str(name)
    return None


def number_of(config: PretrainedConfig, name: str) -> int:
    """The number that an entry of the decoder's config holds, the largest of a list; 0 without one."""
    value = getattr(text_config(config), name, None)
    values = value if isinstance(value, list) else [value]
    return max((one for one in values if type(one) is int), default=0)


def _grown(
    model: PreTrainedModel, layers: str, routed: Mapping[int, Sublayer], count: int
) -> tuple[str, PreTrainedModel]:
    """The entry that says how many experts there are, and the model, without memory, with twice as many."""
    made: Any = type(model)
    for name, value in text_config(model.config).to_dict().items():
        if value != count or type(value) is not int or not re.search(EXPERTS, name):
            continue
        try:
            with torch.device("meta"):
                other: PreTrainedModel = made._from_config(with_entry(model.config, name, 2 * count))
        except Exception:
            # Classes refuse sizes that do not fit each other with errors of all kinds.
            continue
        open_experts(other)
        blocks = [other.get_submodule(f"{layers}.{index}.{one.block}") for index, one in routed.items()]
        if all(len(list(block.children())) == 2 * count for block in blocks):
            return str(name), other
    raise _RefusedError(f"no entry of its config says that there are {count} experts")


def _rows(
    model: PreTrainedModel, other: PreTrainedModel, layers: str, routed: Mapping[int, Sublayer], count: int
) -> dict[int, list[tuple[str, str, int]]]:
    """The weights and buffers that grow with the number of experts, by layer."""
    before, after = (
        {name: one.shape for part in (its.named_parameters(), its.named_buffers()) for name, one in part}
        for its in (model, other)
    )
    blocks = tuple(f"{layers}.{index}.{sublayer.block}." for index, sublayer in routed.items())
    found: dict[int, list[tuple[str, str, int]]] = {index: [] for index in routed}
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new or name.startswith(blocks):
            continue
        owner = next((index for index in routed if name.startswith(f"{layers}.{index}.")), None)
        axis = None if old is None or new is None else _axis(old, new, count)
        if owner is None or axis is None:
            raise _RefusedError(f"the number of experts sizes {name} too, in a way that is not known")
        module, _, leaf = name.removeprefix(f"{layers}.{owner}.").rpartition(".")
        found[owner].append((module, leaf, axis))
    return found


def _axis(old: torch.Size, new: torch.Size, count: int) -> int | None:
    """The one axis that got `count` entries longer."""
    for axis, size in enumerate(old):
        if (*old[:axis], size + count, *old[axis + 1 :]) == tuple(new):
            return axis
    return None


def _counts(layer: nn.Module, other: nn.Module, count: int) -> Iterator[Count]:
    """The integers of a layer's modules that grow with the number of experts."""
    for name, module in layer.named_modules():
        after = vars(knowing(other.get_submodule(name)))
        for attribute, value in vars(knowing(module)).items():
            more = after.get(attribute)
            if type(value) is int and type(more) is int and more != value:
                per = Fraction(more - value, count)
                rest = value - per * count
                if rest.denominator > 1:
                    raise _RefusedError(f"{attribute} of {name} is no multiple of the number of experts")
                yield Count(name, attribute, per, int(rest))


def knowing(module: nn.Module) -> nn.Module:
    """The module that knows the sizes: the fused one of experts that were opened, otherwise itself."""
    return module.stock if isinstance(module, OpenExperts) else module


def _chosen(layer: nn.Module, call: Call | None, sublayer: Sublayer) -> int:
    """How many experts a token is given to at most."""
    block = layer.get_submodule(sublayer.block)
    given: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        given.append(inputs[1].ne(0))

    assert call is not None, "a layer whose experts were found was called"
    with hooked([(one, note) for one in block.children()]), torch.no_grad():
        call.run(layer)
    return int(torch.stack(given).sum(0).max())
