import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicSlidingWindowLayer

from secateurs.inference.cache import cache_of
from tests.families.test_families import tiny
from tests.tiny import make_tiny_model

IDS = torch.randint(2, 258, (3, 12), generator=torch.Generator().manual_seed(0))


def test_it_holds_what_transformers_own_holds_and_when_rows_have_left() -> None:
    model = make_tiny_model().requires_grad_(False)
    ours, own = cache_of(model, 12), DynamicCache(config=model.config)
    for start, end in ((0, 7), (7, 8), (8, 9)):
        found = model(IDS[:, start:end], past_key_values=ours, use_cache=True).logits
        expected = model(IDS[:, start:end], past_key_values=own, use_cache=True).logits
        assert torch.equal(found, expected)
    left = torch.tensor([2, 0])
    for cache in (ours, own):
        cache.batch_select_indices(left)
    for start in (9, 10, 11):
        model(IDS[left, start : start + 1], past_key_values=ours, use_cache=True)
        model(IDS[left, start : start + 1], past_key_values=own, use_cache=True)
    assert ours.get_seq_length() == own.get_seq_length() == 12
    for one, other in zip(ours.layers, own.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)


def test_memory_is_taken_once() -> None:
    model = make_tiny_model().requires_grad_(False)
    cache, places = cache_of(model, 12), set[int]()
    for start in range(12):
        model(IDS[:, start : start + 1], past_key_values=cache, use_cache=True)
        places.add(cache.layers[0].keys.data_ptr())
    assert len(places) == 1


def test_layers_with_a_sliding_window_stay_transformers_own() -> None:
    model = tiny("mistral")
    cache = cache_of(model, 12)
    assert [type(layer) for layer in cache.layers] == [DynamicSlidingWindowLayer] * 2
