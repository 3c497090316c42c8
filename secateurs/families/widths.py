"""Which entry of a config says how wide which sublayers are, found by building the model with it changed."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from secateurs.families.decoder import text_config
from secateurs.families.family import Sublayer, Width
from secateurs.families.fused_experts import open_experts
from secateurs.families.twins import is_width

# Even, because some widths are half of their entry, and rows of 16 bytes, which kernels for experts want.
GROWTH = 16
FACTORS = (Fraction(1), Fraction(2), Fraction(1, 2), *map(Fraction, range(3, 9)))

Place = tuple[int, Sublayer]
"""The number of a layer, and one of its sublayers."""


class Widths:
    """The widths of sublayers, tried out one entry of the config after the other.

    model: its experts opened; layers: the name of its list of decoder layers; places: all sublayers whose
    channels were found. reasons: why some have no width. fixed: the widths of those whose class makes them of
    the width of the stream, and no entry of their own.
    """

    def __init__(self, model: PreTrainedModel, layers: str, places: Sequence[Place]) -> None:
        self.config, self.layers, self.places = model.config, layers, places
        self.reasons: dict[str, None] = {}
        self.fixed: dict[Place, Width] = {}
        self._class: Any = type(model)
        self._entries = text_config(self.config).to_dict()
        self._base = self._model(self.config)
        self._growths: dict[str, dict[Place, int]] = {}

    def of(self, place: Place) -> Width | None:
        """The width of a sublayer; None where no entry sizes such sublayers alone."""
        size = self._size(self._base, place)
        for attribute in self._candidates(size):
            if attribute not in self._growths:
                self._growths[attribute] = self._growth(attribute)
            growth = self._growths[attribute].get(place, 0)
            if growth:
                listed = isinstance(self._entries[attribute], list)
                return Width(attribute, Fraction(growth, GROWTH), listed)
        if not any(
            f" {attribute} " in reason for attribute in self._candidates(size) for reason in self.reasons
        ):
            width = self._computed(size)
            if width is None or place[1].routed:
                self.reasons[f"no entry of its config says how wide {place[1].output} is"] = None
            else:
                self.fixed[place] = width
        return None

    def _computed(self, size: int) -> Width | None:
        for factor in FACTORS:
            for name, value in self._entries.items():
                if name in ("hidden_size", "d_model", "n_embd") and value * factor == size:
                    return Width(name, factor, fixed=True)
        return None

    def _candidates(self, size: int) -> Iterator[str]:
        """The entries that may say how wide a sublayer of this size is, the likelier ones first."""
        widths = {name: value for name, value in self._entries.items() if is_width(name)}
        for factor in FACTORS:
            for name, value in widths.items():
                values = value if isinstance(value, list) else [value]
                if any(type(one) is int and one * factor == size for one in values):
                    yield name
        yield from (name for name, value in widths.items() if value is None)

    def _growth(self, attribute: str) -> dict[Place, int]:
        """By how many channels sublayers grow where the entry grows by GROWTH; empty if others grow too."""
        try:
            other = self._model(with_entry(self.config, attribute, self._grown(attribute)))
        except Exception:
            # Classes refuse sizes that do not fit each other with errors of all kinds.
            return {}
        sizes, before = (
            {name: weight.shape for name, weight in model.named_parameters()} for model in (other, self._base)
        )
        changed = {name for name in sizes.keys() | before.keys() if sizes.get(name) != before.get(name)}
        growth = {}
        for place in self.places:
            more = self._size(other, place) - self._size(self._base, place)
            if more > 0:
                growth[place] = more
                changed -= self._owned(place)
        if changed and growth:
            self.reasons[
                f"its config's {attribute} sizes {min(changed)} too, of which no channels were found"
            ] = None
        return {} if changed else growth

    def _grown(self, attribute: str) -> Any:
        value = self._entries[attribute]
        if value is None:
            return self._size(self._base, self.places[0]) + GROWTH
        if not isinstance(value, list):
            return value + GROWTH
        # Only those of layers whose channels were found: the others may stay as they are.
        found = {
            index
            for index, sublayer in self.places
            if self._size(self._base, (index, sublayer)) == value[index]
        }
        return [one + GROWTH if index in found else one for index, one in enumerate(value)]

    def _model(self, config: PretrainedConfig) -> PreTrainedModel:
        with torch.device("meta"):
            model: PreTrainedModel = self._class._from_config(config)
        return open_experts(model)

    def _size(self, model: PreTrainedModel, place: Place) -> int:
        index, sublayer = place
        module = model.get_submodule(f"{self.layers}.{index}.{sublayer.of_expert(0).output}")
        assert isinstance(module, nn.Linear)
        return module.in_features

    def _owned(self, place: Place) -> set[str]:
        """The names of the weights that a sublayer's channels are in."""
        index, sublayer = place
        return {
            f"{self.layers}.{index}.{module}.{name}"
            for number in range(self._experts(place))
            for own in [sublayer.of_expert(number)]
            for module in (*own.inputs, own.output)
            for name in ("weight", "bias")
        }

    def _experts(self, place: Place) -> int:
        index, sublayer = place
        if not sublayer.routed:
            return 1
        return len(list(self._base.get_submodule(f"{self.layers}.{index}.{sublayer.block}").children()))


def with_entry(config: PretrainedConfig, attribute: str, value: Any) -> PretrainedConfig:
    """A config with another value for one entry of its decoder's config, made by its class anew."""
    entries = config.to_dict()
    inner, inside = text_config(config), entries
    if inner is not config:
        inside = entries[next(name for name, part in vars(config).items() if part is inner)]
    inside[attribute] = value
    made: PretrainedConfig = type(config).from_dict(entries)
    return made
