"""Matrices of low rank: what they are beside, that merging changes nothing, and what is shared meanwhile."""

import copy

import pytest
import torch

from secateurs.errors import SettingError
from secateurs.recover.low_rank import low_rank
from secateurs.recover.rollouts import to_write_with
from secateurs.recover.sharing import share_equal
from secateurs.recover.trained import trainable, trained_parameters
from secateurs.recover.training import Snapshot
from secateurs.settings.recovery import LowRank
from tests.families.test_families import FAMILIES, IDS, logits, tiny
from tests.recover.test_distillation import OFF, TRAINING, pruned, run, same_weights
from tests.recover.test_on_policy import run as run_on_policy
from tests.tiny import make_tiny_model

LOW = TRAINING.changed(weights="low_rank", learning_rate=0.02)
RANK = LowRank(rank=3, targets=[])


@pytest.mark.parametrize("family", FAMILIES)
def test_merging_leaves_what_the_model_computes(family: str) -> None:
    model = tiny(family).requires_grad_(False)
    before, state = logits(model), copy.deepcopy(model.state_dict())
    generator = torch.Generator().manual_seed(4)
    with low_rank(model, RANK, 0) as weights:
        assert torch.allclose(logits(model), before, atol=1e-5)
        for name, weight in weights.items():
            if name.endswith(".second"):
                weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
        expected = logits(model)
    assert not torch.allclose(expected, before, atol=1e-2)
    assert torch.allclose(logits(model), expected, atol=1e-4)
    assert {name: one.shape for name, one in model.state_dict().items()} == {
        name: one.shape for name, one in state.items()
    }


def test_left_alone_they_leave_every_bit() -> None:
    for family in ("llama", "qwen3_moe"):
        model = tiny(family)
        before = copy.deepcopy(model.state_dict())
        with low_rank(model, RANK, 0):
            pass
        after = model.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(weight, before[name]) for name, weight in after.items())


def test_only_the_projections_that_are_named_change() -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    before = copy.deepcopy(student)
    targets = ["down_proj", "q_proj"]
    course = run(student, teacher, LOW.changed(steps=20, low_rank=LowRank(rank=3, targets=targets)))
    assert course.best.divergence < course.checks[0].divergence
    changed = {
        name.split(".")[-2]
        for (name, weight), other in zip(student.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(weight, other)
    }
    assert changed == set(targets)
    assert not any(weight.requires_grad for weight in student.parameters())


def test_each_projection_has_rank_times_its_inputs_and_outputs_to_train() -> None:
    student = pruned(make_tiny_model())
    before = copy.deepcopy(student)
    # Of the tiny model: q and o 32 x 32, k and v 16 x 32, three projections of 24 channels.
    widths = 2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 24)
    assert trained_parameters(student, LOW.changed(low_rank=RANK)) == 3 * 3 * widths
    assert same_weights(student, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            LowRank(rank=2, targets=["c_proj"]),
            "recover.low_rank.targets: c_proj: no projection of the decoder",
        ),
        (
            LowRank(rank=17, targets=[]),
            "recover.low_rank.rank: 17: model.layers.0.self_attn.k_proj is a matrix",
        ),
    ],
)
def test_what_no_projection_has_is_named(settings: LowRank, message: str) -> None:
    with pytest.raises(SettingError, match=message), low_rank(make_tiny_model(), settings, 0):
        pass


def test_a_snapshot_has_the_factors_alone_and_goes_on_to_the_same_bits() -> None:
    teacher = make_tiny_model()
    whole, second = pruned(teacher), pruned(teacher)
    taken: list[Snapshot] = []
    course = run(whole, teacher, LOW, on_step=lambda take: taken.append(copy.deepcopy(take())))
    size = trained_parameters(pruned(teacher), LOW)
    assert sum(one.numel() for one in taken[2].tensors.values()) == 4 * size
    assert run(second, teacher, LOW, snapshot=taken[2]) == course
    assert same_weights(second, whole)


def test_half_precision_weights_stay_frozen_and_the_teachers_are_never_written_over() -> None:
    teacher = make_tiny_model().bfloat16().requires_grad_(False)
    student = pruned(teacher)
    before = copy.deepcopy(teacher)
    saved = share_equal(student, teacher)
    # All but the mlps, which were cut.
    assert saved == sum(one.nbytes for name, one in teacher.named_parameters() if ".mlp." not in name)
    assert student.model.embed_tokens.weight is teacher.model.embed_tokens.weight
    assert student.lm_head.weight is teacher.lm_head.weight
    course = run(student, teacher, LOW.changed(steps=20), autocast=torch.bfloat16)
    assert course.best.divergence < course.checks[0].divergence
    assert {weight.dtype for weight in student.parameters()} == {torch.bfloat16}
    assert same_weights(teacher, before)
    ours, theirs = (one.model.layers[0].self_attn.q_proj.weight for one in (student, before))
    assert not torch.equal(ours, theirs)


def test_what_is_trained_is_not_shared() -> None:
    teacher = make_tiny_model(tie_word_embeddings=False)
    student = copy.deepcopy(teacher)
    share_equal(student, teacher, trainable(student))
    shared = {
        name for name, one in student.named_parameters() if one is dict(teacher.named_parameters())[name]
    }
    assert shared == {"model.embed_tokens.weight", "lm_head.weight"}


def test_a_copy_that_writes_has_the_factors_in_its_weights() -> None:
    model = make_tiny_model().bfloat16().requires_grad_(False)
    before = model(IDS).logits.float()
    with low_rank(model, RANK, 0) as weights, torch.autocast("cpu", torch.bfloat16):
        for name, weight in weights.items():
            if name.endswith(".second"):
                weight.data += 0.1
        copied = to_write_with(model, torch.bfloat16)
        assert not any("first" in name for name, _ in copied.named_parameters())
        assert copied.model.norm.weight.data_ptr() == model.model.norm.weight.data_ptr()
        ours, theirs = (one(IDS).logits.float() for one in (copied, model))
    # Rounded to half precision at other places.
    assert (ours - theirs).norm() < 0.05 * (before - theirs).norm()


def test_factors_are_trained_on_answers_too() -> None:
    teacher = make_tiny_model()
    course = run_on_policy(pruned(teacher), teacher, LOW.changed(steps=12, on_policy=OFF.changed(share=0.5)))
    assert course.best.divergence < course.checks[0].divergence
