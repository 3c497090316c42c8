"""The chunked divergence against one that torch computes from both logits whole."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference import divergence
from secateurs.inference.divergence import Kind, divergences, divergences_of_hidden, divergences_where
from secateurs.recover.trained import trainable
from tests.tiny import make_tiny_model, make_tiny_twin

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


def capped(seed: int = 0) -> PreTrainedModel:
    made = make_tiny_twin("gemma2", seed, final_logit_softcapping=0.5, vocab_size=258)
    return made.requires_grad_(True)


@pytest.mark.parametrize("make", [make_tiny_model, capped])
def test_value_and_gradient_equal_those_through_whole_logits(make: Callable[..., PreTrainedModel]) -> None:
    student, teacher = make(seed=1), make()
    expected, found = reference(student, teacher), divergences(student, teacher, IDS)
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


# p and q, the teacher's and the student's distribution, float64 [positions, vocabulary] -> [positions].
DEFINITIONS: dict[Kind, Callable[[Tensor, Tensor], Tensor]] = {
    "forward": lambda p, q: torch.xlogy(p, p / q).sum(dim=-1),
    "reverse": lambda p, q: torch.xlogy(q, q / p).sum(dim=-1),
    "js": lambda p, q: (torch.xlogy(p, 2 * p / (p + q)) + torch.xlogy(q, 2 * q / (p + q))).sum(dim=-1) / 2,
}
KINDS = pytest.mark.parametrize("kind", list(DEFINITIONS))


def of_logits(kind: Kind, scores: Tensor, target: Tensor) -> Tensor:
    """The divergence of logits [positions, vocabulary]: hidden states of heads that change nothing."""
    return divergences_of_hidden(scores[:, None], target[:, None], Tensor.float, Tensor.float, kind)


@KINDS
@pytest.mark.parametrize("width", [0.1, 3.0, 20.0])
def test_each_divergence_and_its_gradient_are_those_of_its_definition(kind: Kind, width: float) -> None:
    generator = torch.Generator().manual_seed(2)
    scores, target = (width * torch.randn(20, 50, generator=generator) for _ in range(2))
    weights = torch.rand(20, generator=generator)
    exact = scores.double().requires_grad_()
    expected = DEFINITIONS[kind](target.double().softmax(dim=-1), exact.softmax(dim=-1))
    (expected * weights).sum().backward()
    scores.requires_grad_()
    found = of_logits(kind, scores, target)
    (found * weights).sum().backward()
    assert scores.grad is not None
    assert exact.grad is not None
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-6)
    # Log probabilities of some -100 are rounded by 4e-6.
    assert torch.allclose(scores.grad.double(), exact.grad, rtol=1e-4, atol=1e-6 * max(1.0, width))


@KINDS
@pytest.mark.parametrize("lowest", [-300.0, -1e30, -torch.inf])
def test_where_probabilities_underflow_value_and_gradient_are_finite(kind: Kind, lowest: float) -> None:
    scores = torch.tensor([[0.0, lowest, lowest], [lowest, 0.0, lowest], [0.0, 1.0, lowest]])
    target = torch.tensor([[lowest, 0.0, lowest], [lowest, 0.0, lowest], [lowest, 0.0, 1.0]])
    scores.requires_grad_()
    found = of_logits(kind, scores, target)
    found.sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(found).all()
    assert torch.isfinite(scores.grad).all()
    # Equal distributions.
    assert (found[1].item(), bool(scores.grad[1].any())) == (0.0, False)
    if kind == "js":
        # Nothing in common.
        assert found[0].item() == pytest.approx(math.log(2))


@KINDS
def test_only_chosen_positions_count_and_padding_on_the_right_is_seen_by_none(kind: Kind) -> None:
    student, teacher = make_tiny_model(seed=1), make_tiny_model()
    lengths, starts = (20, 11, 15), (4, 10, 0)
    ids, where = IDS.clone(), torch.zeros(3, 20, dtype=torch.bool)
    expected = []
    for row, (length, start) in enumerate(zip(lengths, starts, strict=True)):
        ids[row, length:] = 0
        where[row, start:length] = True
        p, q = (
            model(ids[row : row + 1, :length]).logits[0, start:].double().softmax(dim=-1)
            for model in (teacher, student)
        )
        expected.append(DEFINITIONS[kind](p, q))
    found = divergences_where(student, teacher, ids, where, kind)
    whole = torch.cat(expected)
    assert torch.allclose(found.double(), whole, rtol=1e-4, atol=1e-5)
    pairs = zip(gradients(student, found.mean()), gradients(student, whole.mean()), strict=True)
    assert all(torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6) for ours, theirs in pairs)
