"""A model's body and head, run apart, against its own forward pass."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference.head import folded, head_logits, hidden_states
from secateurs.inference.loss import sequence_losses
from tests.tiny import make_tiny_model, make_tiny_twin

IDS = torch.randint(5, 60, (2, 12), generator=torch.Generator().manual_seed(0))
# Logits scaled up or down, hidden states scaled, logits capped, capped by an inner config, scaled by a number
# that the body holds, cut to fewer; layers between body and head; a body inside the body; another name than
# the class declares; a class that takes ids alone.
HEADS: dict[str, dict[str, float]] = {
    "cohere": {"logit_scale": 3.0},
    "granite": {"logits_scaling": 3.0},
    "hyperclovax": {"logits_scaling": 3.0},
    "minicpm3": {},
    "gemma2": {"final_logit_softcapping": 0.5},
    "gemma3": {},
    "falcon_h1": {"lm_head_multiplier": 3.0},
    "inkling2_text": {"unpadded_vocab_size": 90},
    "bert": {},
    "opt": {},
    "llama4_text": {},
    "cpmant": {},
}


@pytest.fixture(params=HEADS.items(), ids=HEADS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    model_type, changes = request.param
    return make_tiny_twin(model_type, **changes)


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.std())


def test_body_and_head_apart_give_the_logits_of_the_whole_model(model: PreTrainedModel) -> None:
    expected = model(input_ids=IDS, use_cache=False).logits
    assert apart(head_logits(model)(hidden_states(model, IDS)), expected) < 1e-5


def test_losses_are_those_of_the_models_own_logits(model: PreTrainedModel) -> None:
    logits = model(input_ids=IDS, use_cache=False).logits[:, :-1].transpose(1, 2)
    expected = torch.nn.functional.cross_entropy(logits, IDS[:, 1:], reduction="none").mean(dim=1)
    assert torch.allclose(sequence_losses(model, IDS), expected, atol=1e-5)


def test_a_head_that_runs_leaves_the_model_as_it_was(model: PreTrainedModel) -> None:
    before = dict(model.named_modules())
    expected = model(input_ids=IDS, use_cache=False).logits
    head_logits(model)(hidden_states(model, IDS))
    assert dict(model.named_modules()) == before
    assert torch.equal(model(input_ids=IDS, use_cache=False).logits, expected)


def test_a_copy_on_another_device_takes_all_of_the_head_and_nothing_of_the_body() -> None:
    model = make_tiny_twin("bert")
    copied = head_logits(model, torch.device("meta"))
    assert {weight.device.type for weight in copied.parameters()} == {"meta"}  # type: ignore[attr-defined]
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}


def test_a_llamas_logits_have_the_bits_of_its_head_alone() -> None:
    model = make_tiny_model()
    hidden = hidden_states(model, IDS)
    assert torch.equal(head_logits(model)(hidden), model.get_output_embeddings()(hidden))


def test_probability_of_rows_that_are_no_tokens_is_left_out() -> None:
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert torch.allclose(folded(p, torch.tensor([1, 0, 1, -1]), 3), torch.tensor([[0.2, 0.4, 0.0]]))


def test_no_hidden_states_give_no_logits() -> None:
    model = make_tiny_model()
    assert head_logits(model)(torch.zeros(0, model.config.hidden_size)).shape == (0, 258)
