"""Factors on channels: what is scaled, and that folding them in changes nothing that the model computes."""

import copy

import pytest
import torch

from secateurs.families.fused_experts import open_experts
from secateurs.kinds.channels import ChannelSite, output_projection
from secateurs.kinds.sites import sites_of
from secateurs.recover.scales import scaled
from tests.families.test_families import FAMILIES, IDS, logits, tiny


@pytest.mark.parametrize("family", FAMILIES)
def test_folding_leaves_what_the_scaled_model_computes(family: str) -> None:
    model = tiny(family).requires_grad_(False)
    before = logits(model)
    shapes = {name: weight.shape for name, weight in model.state_dict().items()}
    generator = torch.Generator().manual_seed(4)
    with scaled(model) as weights:
        assert torch.allclose(logits(model), before, atol=1e-5)
        for weight in weights.values():
            weight.data *= 1 + 0.3 * torch.randn(weight.shape, generator=generator)
        expected = logits(model)
    assert not torch.allclose(expected, before, atol=1e-2)
    assert torch.allclose(logits(model), expected, atol=1e-4)
    assert {name: weight.shape for name, weight in model.state_dict().items()} == shapes


@pytest.mark.parametrize("family", FAMILIES)
def test_every_channel_of_every_output_projection_has_a_scale(family: str) -> None:
    model = tiny(family)
    opened = open_experts(copy.deepcopy(model))
    inputs = {
        id(module): module.in_features
        for module in (output_projection(opened, s) for s in sites_of(opened) if isinstance(s, ChannelSite))
    }
    with scaled(model) as weights:
        found = [len(weight) for name, weight in weights.items() if name.endswith(".scale")]
        norms = [name for name in weights if not name.endswith(".scale")]
    assert sorted(found) == sorted(inputs.values())
    assert all("norm" in name for name in norms)
    assert len(norms) > 2 * model.config.num_hidden_layers


def test_scales_left_alone_leave_every_bit() -> None:
    model = tiny("qwen3_moe")
    before = copy.deepcopy(model.state_dict())
    with scaled(model):
        pass
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in after.items())


def test_the_gradient_of_a_scale_is_that_of_its_column() -> None:
    """d loss / d s_j = sum over outputs of W_ij * d loss / d W_ij, by torch from the weight itself."""
    model = tiny("llama")
    projection = model.model.layers[0].mlp.down_proj
    model.requires_grad_(False)
    projection.weight.requires_grad_(True)
    model(input_ids=IDS, labels=IDS).loss.backward()
    expected = (projection.weight.grad * projection.weight.detach()).sum(dim=0)
    projection.weight.requires_grad_(False)
    with scaled(model) as weights:
        scale = weights["model.layers.0.mlp.down_proj.scale"]
        model(input_ids=IDS, labels=IDS).loss.backward()
        assert scale.grad is not None
        assert torch.allclose(scale.grad, expected, atol=1e-5)
