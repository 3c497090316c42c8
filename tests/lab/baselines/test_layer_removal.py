"""Layers that do little are found and dropped; what is left is a model of its class."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from lab.baselines.layer_removal import angular, block_influence, drop_layers, influences, turns
from lab.baselines.walk import streams
from secateurs.errors import InputError
from secateurs.families.decoder import decoder_layers

Make = Callable[..., LlamaForCausalLM]


@pytest.fixture
def model(tiny_model: Make) -> LlamaForCausalLM:
    """Five layers, of which 1 and 2 hardly touch the stream."""
    made = tiny_model(num_hidden_layers=5)
    for index in (1, 2):
        layer = decoder_layers(made)[index]
        layer.self_attn.o_proj.weight.data *= 1e-3
        layer.mlp.down_proj.weight.data *= 1e-3
    return made


def text() -> dict[str, Tensor]:
    return {"news": torch.randint(2, 258, (10, 16), generator=torch.Generator().manual_seed(0))}


def test_the_stream_is_that_of_the_models_own_hidden_states(model: LlamaForCausalLM) -> None:
    ids = text()["news"]
    with torch.no_grad():
        hidden = model(ids, output_hidden_states=True).hidden_states
    found = streams(model, ids)
    assert len(found) == 6
    # The model's last one has passed the final norm.
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found[:-1], hidden, strict=False))


def test_influence_is_one_minus_the_mean_cosine(model: LlamaForCausalLM) -> None:
    before, after = streams(model, text()["news"])[3:5]
    one, other = before.flatten(0, 1).double(), after.flatten(0, 1).double()
    cosine = (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1))
    assert float(influences(model, text())[3]) == pytest.approx(1 - float(cosine.mean()), abs=1e-6)


def test_a_turn_is_the_angle_at_the_last_token(model: LlamaForCausalLM) -> None:
    states = [state[:, -1].double() for state in streams(model, text()["news"])]
    cosine = (states[1] * states[3]).sum(dim=1) / (states[1].norm(dim=1) * states[3].norm(dim=1))
    expected = float((cosine.arccos() / torch.pi).mean())
    found = turns(model, text(), 2)
    assert len(found) == 4
    assert float(found[1]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", [block_influence, angular])
def test_the_layers_of_least_influence_go(
    model: LlamaForCausalLM, method: Callable[[LlamaForCausalLM, dict[str, Tensor], float], None]
) -> None:
    kept = [decoder_layers(model)[index].mlp.up_proj.weight for index in (0, 3, 4)]
    method(model, text(), 0.4)
    assert [layer.mlp.up_proj.weight for layer in decoder_layers(model)] == kept
    assert model.config.num_hidden_layers == 3


def test_a_shorter_model_generates_with_its_cache(model: LlamaForCausalLM) -> None:
    drop_layers(model, [0, 3])
    ids = text()["news"][:1]
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits[:, -1]
        cached = model(ids[:, :-1], use_cache=True).past_key_values
        step = model(ids[:, -1:], past_key_values=cached).logits[:, -1]
    assert torch.allclose(step, whole, atol=1e-4)


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_none_or_all_layers_are_refused(model: LlamaForCausalLM, share: float) -> None:
    with pytest.raises(InputError, match=f"share: {share}: is [05] of 5 layers"):
        block_influence(model, text(), share)
