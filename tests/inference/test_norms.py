import copy

import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from secateurs.inference import norms
from secateurs.inference.norms import fused_norms, is_rms_norm
from tests.families.test_families import FAMILIES, IDS, tiny
from tests.tiny import make_tiny_model

OTHER_NORMS = {"gemma2", "gemma3_text", "gpt_neox"}


def with_random_weights(norm: nn.Module, dtype: torch.dtype) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for weight in norm.parameters():
        weight.data = torch.randn(weight.shape, generator=generator)
    return norm.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_norm_is_known_by_what_it_computes(dtype: torch.dtype) -> None:
    assert is_rms_norm(with_random_weights(LlamaRMSNorm(64, eps=1e-5), dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "other", [Gemma2RMSNorm(64), nn.LayerNorm(64, bias=False), nn.LayerNorm(64), nn.Linear(64, 64), nn.SiLU()]
)
def test_a_module_that_computes_something_else_is_not_taken_for_one(
    other: nn.Module, dtype: torch.dtype
) -> None:
    assert not is_rms_norm(with_random_weights(copy.deepcopy(other), dtype))


def test_a_norm_whose_epsilon_is_used_otherwise_is_not_taken_for_one() -> None:
    class Outside(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            length = hidden_states.pow(2).mean(-1, keepdim=True).sqrt() + self.variance_epsilon
            return self.weight * hidden_states / length

    assert not is_rms_norm(with_random_weights(Outside(64, eps=0.1), torch.float32))


def test_in_host_memory_the_model_keeps_its_own_code() -> None:
    model = make_tiny_model()
    with fused_norms(model):
        assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_family_gives_the_same_with_its_norms_exchanged(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch computes the same function on a CPU; the kernel itself is tried in tests/test_gpu.py."""
    model, tried = tiny(family), list[nn.Module]()
    expected = model(IDS).logits
    monkeypatch.setattr(norms, "_on_cuda", lambda module: bool(list(module.parameters(recurse=False))))
    before = norms.is_rms_norm
    monkeypatch.setattr(norms, "is_rms_norm", lambda module: tried.append(module) or before(module))
    with fused_norms(model):
        exchanged = [module for module in model.modules() if "forward" in vars(module)]
        found = model(IDS).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert bool(exchanged) == (family not in OTHER_NORMS)
    assert not any("forward" in vars(module) for module in model.modules())
    # One of a kind is tried: norms of the stream, and of heads where a family has them.
    assert len([module for module in tried if module in exchanged]) <= 2
