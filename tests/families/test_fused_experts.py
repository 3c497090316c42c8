"""Fused experts in all layouts of transformers, opened into linear modules and closed again."""

import pytest
import torch

from secateurs.families.examples import example_config
from secateurs.families.fused_experts import OpenExperts, close_experts, open_experts
from secateurs.families.twins import twin, twin_config

# Concatenated, interleaved with biases, transposed, called sorted, without gates, with a gate of their own.
LAYOUTS = ("mixtral", "gpt_oss", "aria_text", "llama4_text", "nemotron_h", "deepseek_v4")
IDS = torch.randint(3, 96, (2, 10), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", LAYOUTS)
def test_opened_experts_compute_the_same_and_close_without_a_trace(family: str) -> None:
    model = twin(twin_config(example_config(family)))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        opened = open_experts(model)
        assert any(isinstance(module, OpenExperts) for module in opened.modules())
        assert torch.allclose(opened(input_ids=IDS).logits, expected, atol=1e-4 * float(expected.std()))
    again = close_experts(opened).state_dict()
    assert before.keys() == again.keys()
    assert all(torch.equal(again[name], weight) for name, weight in before.items())


def test_a_model_without_experts_stays_as_it_is() -> None:
    model = twin(twin_config(example_config("llama")))
    modules = list(model.named_modules())
    assert list(open_experts(model).named_modules()) == modules
