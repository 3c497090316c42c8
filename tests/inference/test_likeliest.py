"""The divergence over likeliest tokens and the rest, against float64 and automatic gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference.divergence import divergences
from secateurs.inference.likeliest import likeliest, likeliest_divergences
from tests.tiny import make_tiny_model

IDS = torch.randint(0, 258, (3, 16), generator=torch.Generator().manual_seed(3))
VOCABULARY = 258


def models() -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model and another one that is not far from it, with a gradient for its last norm."""
    teacher, student = make_tiny_model(), make_tiny_model()
    generator = torch.Generator().manual_seed(4)
    for weight in student.parameters():
        weight.data += 0.02 * torch.randn(weight.shape, generator=generator)
    return student.requires_grad_(False), teacher.requires_grad_(False)


def by_definition(scores: Tensor, log_p: Tensor, count: int) -> Tensor:
    """KL over the `count` likeliest tokens of p and the sum of all others, the mean over positions."""
    order = log_p.argsort(dim=-1, descending=True)
    p, q = (one.gather(-1, order) for one in (log_p.exp(), scores.softmax(dim=-1)))
    classes = [torch.cat([one[..., :count], one[..., count:].sum(-1, keepdim=True)], -1) for one in (p, q)]
    if count == VOCABULARY:
        classes = [one[..., :-1] for one in classes]
    return (classes[0] * (classes[0].log() - classes[1].log())).sum(-1).mean(-1)


@pytest.mark.parametrize("count", [1, 7, 100, VOCABULARY])
def test_value_and_gradient_are_those_of_float64(count: int) -> None:
    student, teacher = models()
    target = likeliest(teacher, IDS, count)
    norm = student.model.norm.weight.requires_grad_(True)
    found = likeliest_divergences(student, target, IDS)
    (gradient,) = torch.autograd.grad(found.sum(), norm)
    exact = student.double()
    log_p = F.log_softmax(teacher.double()(IDS).logits, dim=-1)
    expected = by_definition(exact(IDS).logits, log_p, count)
    (wanted,) = torch.autograd.grad(expected.sum(), exact.model.norm.weight)
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-7)
    assert torch.allclose(gradient.double(), wanted.double(), rtol=1e-3, atol=1e-6)


def test_all_tokens_give_the_live_loss_and_gradient() -> None:
    student, teacher = models()
    norm = student.model.norm.weight.requires_grad_(True)
    target = likeliest(teacher, IDS, VOCABULARY)
    ours, live = likeliest_divergences(student, target, IDS), divergences(student, teacher, IDS)
    gradients = [torch.autograd.grad(one.sum(), norm)[0] for one in (ours, live)]
    assert torch.allclose(ours, live, rtol=1e-5, atol=1e-7)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-7)


def test_fewer_tokens_are_a_lower_bound_that_rises() -> None:
    student, teacher = models()
    found = [
        likeliest_divergences(student, likeliest(teacher, IDS, count), IDS).double().mean()
        for count in (1, 4, 16, 64, VOCABULARY)
    ]
    assert found == sorted(found)
    assert 0 < found[0] < found[-1]


def test_the_rest_is_the_sum_of_all_others() -> None:
    _, teacher = models()
    target = likeliest(teacher, IDS, 10)
    p = teacher.double()(IDS).logits.softmax(dim=-1)
    rest = 1 - p.gather(-1, target.ids).sum(dim=-1)
    assert torch.allclose(target.rest.double().exp(), rest, rtol=1e-5)
    assert torch.equal(target.ids.sort()[0], p.topk(10).indices.sort()[0])


def test_a_student_that_leaves_the_others_nothing_has_a_finite_gradient() -> None:
    teacher, student = (make_tiny_model(tie_word_embeddings=False) for _ in range(2))
    ids = IDS[:1, :1]
    target = likeliest(teacher, ids, 10)
    with torch.no_grad():
        hidden = student.model(ids).last_hidden_state[0, 0]
        student.lm_head.weight.zero_()
        # Beyond what float32 can tell from nothing.
        student.lm_head.weight[target.ids[0, 0]] = 1e3 * hidden / hidden.square().sum()
    norm = student.model.norm.weight.requires_grad_(True)
    value = likeliest_divergences(student, target, ids)
    (gradient,) = torch.autograd.grad(value.sum(), norm)
    assert 100 < float(value.detach()) < 1e4
    assert torch.isfinite(gradient).all()
    assert gradient.any()
