"""Training of single layers against their dense originals."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from secateurs.devices.offloading import Offloading
from secateurs.devices.optimizer import BETAS
from secateurs.errors import InputError
from secateurs.families.hooks import hooked
from secateurs.heal import healer
from secateurs.heal.reconstruction import reconstruct
from secateurs.heal.residual_streams import Streams
from secateurs.kinds.sites import all_kept_masks
from secateurs.settings.pruning import Reconstruct, Surgery
from tests.families.test_families import half_masks
from tests.healing import CPU, IDS, error, healed
from tests.tiny import make_tiny_model


def pruned(
    model: LlamaForCausalLM, masks: dict[str, torch.Tensor], reconstruction: Reconstruct | None
) -> LlamaForCausalLM:
    surgery = Surgery(heal="residual", alpha=0.6, ridge=0.15, reconstruct=reconstruction or Reconstruct())
    return healed(model, masks, surgery, batch_size=2)[0]


def test_it_brings_the_model_nearer_to_the_dense_one_than_refits_do() -> None:
    model = make_tiny_model()
    masks = half_masks(model, ("mlp",))
    trained = pruned(model, masks, Reconstruct(epochs=10, learning_rate=3e-3, batch_size=2))
    assert error(trained, model) < 0.8 * error(pruned(model, masks, None), model)


def test_the_refits_before_it_divide_each_tokens_error_by_its_streams_length() -> None:
    """The first layer's streams enter equal; with a learning rate of 0 its refit is all that happens."""
    model = make_tiny_model(num_hidden_layers=1)
    masks = half_masks(model, ("mlp",))
    seen: dict[str, torch.Tensor] = {}
    layer = model.model.layers[0]
    before = [(layer.mlp.down_proj, lambda _, inputs: seen.update(x=inputs[0]))]
    after = [(layer, lambda _, inputs, output: seen.update(stream=output))]
    with torch.no_grad(), hooked(before, after):
        model(IDS)
    x = seen["x"].flatten(0, 1).double() / seen["stream"].flatten(0, 1).double().norm(dim=1, keepdim=True)
    weight, kept = layer.mlp.down_proj.weight.detach().double(), masks["0/mlp"]
    pull = (0.15 * x[:, kept].square().sum(0)).sqrt()
    stacked = torch.cat([x[:, kept], torch.diag(pull)])
    wanted = torch.cat([x @ weight.T, pull[:, None] * weight[:, kept].T])
    expected = torch.linalg.lstsq(stacked, wanted).solution.T
    settings = Reconstruct(epochs=1, learning_rate=1e-30, batch_size=2)
    healed = pruned(model, masks, settings).model.layers[0].mlp.down_proj.weight
    assert torch.allclose(healed.double(), expected, atol=1e-4)


def test_what_was_removed_stays_removed() -> None:
    model = make_tiny_model()
    masks = half_masks(model, ("mlp",))
    settings = Reconstruct(epochs=1, learning_rate=1e-3, batch_size=2)
    trained, refitted = (pruned(model, masks, one) for one in (settings, None))
    shapes = [[weight.shape for weight in one.parameters()] for one in (trained, refitted)]
    assert shapes[0] == shapes[1]


def test_nothing_removed_leaves_every_weight_as_it_was() -> None:
    model = make_tiny_model()
    same = pruned(model, all_kept_masks(model), Reconstruct(epochs=1, learning_rate=1e-3, batch_size=2))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_weights_are_frozen_again() -> None:
    model = make_tiny_model()
    settings = Reconstruct(epochs=1, learning_rate=1e-3, batch_size=2)
    assert not any(
        weight.requires_grad for weight in pruned(model, half_masks(model, ("mlp",)), settings).parameters()
    )


def random_streams(weights: Sequence[float] = (1.0,) * 4) -> Streams:
    generator = torch.Generator().manual_seed(0)
    pruned, dense = (list(torch.randn(4, 2, 5, 8, generator=generator)) for _ in range(2))
    return Streams(dense, pruned, list(weights))


def test_a_step_is_adamw_on_the_weighted_mean_of_relative_errors() -> None:
    """One step over all batches, against a plain computation on all of them at once."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    reference = copy.deepcopy(layer)
    streams = random_streams((1.0, 2.0, 0.5, 1.0))
    reconstruct(
        layer,
        layer,
        streams,
        Offloading(CPU),
        Reconstruct(epochs=1, learning_rate=0.01, batch_size=8),
        seed=0,
    )

    dense = torch.stack(streams.dense)
    errors = (reference(torch.stack(streams.pruned)) - dense).square().sum(-1) / dense.square().sum(-1)
    by_token = torch.tensor(streams.weights)[:, None, None].expand_as(errors)
    ((errors * by_token).sum() / by_token.sum()).backward()
    torch.optim.AdamW(reference.parameters(), lr=0.01, betas=BETAS, weight_decay=0.0).step()
    for found, expected in zip(layer.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("batch_size", "steps"), [(2, 4), (4, 2), (8, 1), (1, 4), (100, 1)])
def test_a_step_takes_whole_batches(batch_size: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: taken.append(1))
    layer = nn.Linear(8, 8)
    settings = Reconstruct(epochs=3, learning_rate=0.01, batch_size=batch_size)
    reconstruct(layer, layer, random_streams(), Offloading(CPU), settings, seed=0)
    assert len(taken) == 3 * steps


def test_half_precision_weights_keep_their_dtype_and_come_nearer() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 8).bfloat16()
    exact = random_streams()
    inputs, targets = ([one.bfloat16() for one in stream] for stream in (exact.pruned, exact.dense))

    def loss() -> float:
        with torch.no_grad():
            return math.fsum(
                float((layer(a) - b).float().square().sum()) for a, b in zip(inputs, targets, strict=True)
            )

    before = loss()
    streams = Streams(targets, inputs, exact.weights)
    reconstruct(
        layer,
        layer,
        streams,
        Offloading(CPU),
        Reconstruct(epochs=20, learning_rate=0.01, batch_size=4),
        seed=0,
    )
    assert {weight.dtype for weight in layer.parameters()} == {torch.bfloat16}
    assert loss() < 0.9 * before


def test_weights_that_are_not_finite_are_one_error() -> None:
    layer = nn.Linear(8, 8)
    streams = random_streams()
    streams.pruned[0][0, 0, 0] = math.nan
    settings = Reconstruct(epochs=1, learning_rate=0.01, batch_size=4)
    with pytest.raises(InputError, match=r"surgery.reconstruct.learning_rate: 0.01"):
        reconstruct(layer, layer, streams, Offloading(CPU), settings, seed=0)


def test_every_layer_is_trained_against_the_dense_stream_that_leaves_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the layer after it is not cut, and could go on without waiting."""
    model = make_tiny_model()
    masks = half_masks(model, ("mlp",))
    masks["1/mlp"] = torch.ones_like(masks["1/mlp"])
    seen: dict[int, torch.Tensor] = {}

    def look(layer: Any, run: Any, streams: Streams, offloading: Any, settings: Any, *, seed: int) -> None:
        seen[seed] = torch.cat(streams.dense)

    monkeypatch.setattr(healer, "reconstruct", look)
    pruned(model, masks, Reconstruct(epochs=1, learning_rate=0.01, batch_size=8))
    expected = model(IDS, output_hidden_states=True).hidden_states
    assert sorted(seen) == [0, 2]
    assert torch.allclose(seen[0], expected[1], atol=1e-5)
    assert torch.allclose(model.model.norm(seen[2]), expected[3], atol=1e-5)
