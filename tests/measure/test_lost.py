"""What a model has lost on left-out text, against whole distributions."""

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

from secateurs.kinds.kind import Masks
from secateurs.kinds.sites import cut
from secateurs.measure.lost import look, lost
from secateurs.text.rows import Text
from tests.tiny import make_tiny_model

IDS = torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(0))
ANSWERS = torch.zeros(3, 12, dtype=torch.bool)
ANSWERS[0, 5:9] = True
ANSWERS[2, 3:] = True


@pytest.fixture
def model() -> LlamaForCausalLM:
    return make_tiny_model().eval()


def half_of_the_channels(model: LlamaForCausalLM) -> Masks:
    channels = model.config.intermediate_size
    return {"0/mlp": torch.arange(channels) < channels // 2}


def test_nothing_is_lost_before_a_cut(model: LlamaForCausalLM) -> None:
    text = Text({"news": IDS})
    assert lost(model, look(model, text, 2), text, 2) == {"news": 0.0}


def test_it_is_the_divergence_relative_to_the_dense_loss_over_answers(
    model: LlamaForCausalLM,
) -> None:
    text = Text({"news": IDS, "dialogues": IDS}, {"dialogues": ANSWERS})
    with torch.no_grad():
        dense = F.log_softmax(model(IDS).logits[:, :-1].float(), dim=-1)
    before = look(model, text, 2)
    cut(model, half_of_the_channels(model))
    with torch.no_grad():
        found = F.log_softmax(model(IDS).logits[:, :-1].float(), dim=-1)
    apart = (dense.exp() * (dense - found)).sum(dim=-1)
    loss = -dense.gather(2, IDS[:, 1:, None])[..., 0]
    chosen = ANSWERS[:, 1:]
    assert lost(model, before, text, 2) == pytest.approx(
        {
            "news": float(apart.mean() / loss.mean()),
            "dialogues": float(apart[chosen].mean() / loss[chosen].mean()),
        },
        rel=1e-4,
    )
