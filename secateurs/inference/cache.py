"""The keys and values of a model that writes, in memory taken once."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


def cache_of(model: PreTrainedModel, tokens: int) -> DynamicCache:
    """An empty cache with room for so many tokens a row.

    Layers of transformers' own that hold fewer tokens than there are (sliding windows) stay as they are.
    """
    cache = DynamicCache(config=model.config)
    cache.layers = [_Roomy(tokens) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class _Roomy(DynamicLayer):
    """A layer of a cache whose tokens are written into their places.

    transformers' own makes a copy of all that it holds at each token, in memory of another size each time.
    """

    def __init__(self, tokens: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tokens = tokens
        self.room: list[Tensor] = []

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        states = (key_states, value_states)
        self.room = [one.new_empty(*one.shape[:2], self.tokens, one.shape[-1]) for one in states]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, start:end] = states
        self.keys, self.values = (room[:, :, :end] for room in self.room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        end = self.get_seq_length()
        # Layers of a model that is spread over devices lie on several.
        self.room = [torch.index_select(room, 0, indices.to(room.device)) for room in self.room]
        self.keys, self.values = (room[:, :, :end] for room in self.room)
