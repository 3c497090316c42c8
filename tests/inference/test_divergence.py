"""The chunked divergence against one that torch computes from both logits whole."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference import divergence
from secateurs.inference.divergence import divergences
from secateurs.recover.distillation import trainable
from tests.tiny import make_tiny_model

IDS = torch.randint(0, 258, (3, 20), generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that a batch is several chunks and the last one is short.
    monkeypatch.setattr(divergence, "CHUNK_TOKENS", 7)


def reference(student: PreTrainedModel, teacher: PreTrainedModel) -> Tensor:
    log_q, log_p = (F.log_softmax(model(IDS).logits, dim=-1) for model in (student, teacher))
    every = F.kl_div(log_q, log_p.detach(), reduction="none", log_target=True).sum(dim=-1)
    return every.mean(dim=1)


def gradients(model: PreTrainedModel, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(trainable(model).values())))


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_value_and_gradient_equal_those_through_whole_logits(softcap: float | None) -> None:
    student, teacher = make_tiny_model(seed=1), make_tiny_model()
    plain = reference
    if softcap is not None:
        for model in (student, teacher):
            model.config.final_logit_softcapping = softcap

        def plain(student: PreTrainedModel, teacher: PreTrainedModel) -> Tensor:
            capped = [softcap * torch.tanh(model(IDS).logits / softcap) for model in (student, teacher)]
            log_q, log_p = (F.log_softmax(values, dim=-1) for values in capped)
            return (log_p.detach().exp() * (log_p.detach() - log_q)).sum(dim=-1).mean(dim=1)

    expected, found = plain(student, teacher), divergences(student, teacher, IDS)
    assert torch.allclose(found, expected, atol=1e-5)
    weights = torch.tensor([1.0, 0.5, 2.0])
    pairs = zip(
        gradients(student, (expected * weights).sum()),
        gradients(student, (found * weights).sum()),
        strict=True,
    )
    assert all(torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6) for theirs, ours in pairs)


def test_a_copy_of_the_teacher_has_no_gradient_at_all() -> None:
    teacher = make_tiny_model()
    student = copy.deepcopy(teacher)
    found = divergences(student, teacher, IDS)
    assert found.tolist() == [0.0] * 3
    assert not any(bool(gradient.any()) for gradient in gradients(student, found.sum()))
