"""Recovery of a tiny pruned model: what it changes, what it leaves alone, and that it can be stopped."""

import copy
from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from secateurs.errors import InputError
from secateurs.kinds.sites import cut
from secateurs.recover.distillation import recover
from secateurs.recover.drawing import draws
from secateurs.recover.trained import trainable, trained_parameters
from secateurs.recover.training import Check, Course, Snapshot, Texts
from secateurs.settings.recovery import LowRank, OnPolicy, Training
from tests.families.test_families import tiny
from tests.tiny import make_tiny_model

OFF = OnPolicy(
    tokens=12,
    temperature=1.0,
    min_p=0.0,
    share=0.0,
    every=2,
    batch_size=3,
    first_tokens=4,
    grown=0.5,
    divergence="forward",
)
TRAINING = Training(
    weights="all",
    low_rank=LowRank(rank=4, targets=[]),
    steps=6,
    minutes=None,
    on_policy=OFF,
    batch_size=4,
    micro_batch_size=3,
    learning_rate=0.01,
    warmup=0.2,
    clip=1.0,
    seed=0,
    check_every=2,
    patience=3,
)
SCALES = TRAINING.changed(weights="scales", learning_rate=0.05)
MIXTURE = {"news": 2.0, "self": 1.0, "unused": 0.0}
_GENERATOR = torch.Generator().manual_seed(3)
SEQUENCES = {name: torch.randint(0, 258, (5, 16), generator=_GENERATOR) for name in ("news", "self")}
LEFT_OUT = {name: torch.randint(0, 258, (3, 16), generator=_GENERATOR) for name in ("news", "self")}


def pruned(teacher: PreTrainedModel) -> PreTrainedModel:
    """Every other mlp channel gone, in each layer."""
    smaller = copy.deepcopy(teacher)
    cut(smaller, {f"{layer}/mlp": torch.arange(48) % 2 == 1 for layer in range(3)})
    return smaller.requires_grad_(False)


def run(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    training: Training = TRAINING,
    snapshot: Snapshot | None = None,
    on_step: Callable[[Callable[[], Snapshot]], object] = lambda take: None,
    autocast: torch.dtype | None = None,
) -> Course:
    return recover(
        student,
        teacher,
        Texts(SEQUENCES, LEFT_OUT, MIXTURE),
        training,
        autocast=autocast,
        snapshot=snapshot,
        on_step=on_step,
    )


def stop_and_go_on(run: Callable[..., Course], training: Training, taken_at: int) -> None:
    """Check that a training that is stopped after so many steps ends in the bits of one in one go."""
    teacher = make_tiny_model()
    whole, first, second = (pruned(teacher) for _ in range(3))
    course = run(whole, teacher, training)
    taken: list[Snapshot] = []

    def stop(take: Callable[[], Snapshot]) -> None:
        if len(taken) < taken_at:
            taken.append(copy.deepcopy(take()))
        else:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(first, teacher, training, on_step=stop)
    assert run(second, teacher, training, snapshot=taken[-1]) == course
    assert same_weights(second, whole)
    assert not same_weights(first, whole)


@torch.no_grad()
def left_out_divergence(student: PreTrainedModel, teacher: PreTrainedModel) -> float:
    """The mean over tokens of KL(teacher || student), news counting twice, from both models' whole logits."""
    total = 0.0
    for domain, ids in LEFT_OUT.items():
        log_q, log_p = (F.log_softmax(model(ids).logits, dim=-1) for model in (student, teacher))
        total += MIXTURE[domain] * float(F.kl_div(log_q, log_p, reduction="sum", log_target=True))
    return total / (3 * 3 * 16)


def same_weights(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("training", [TRAINING, SCALES], ids=["all", "scales"])
def test_the_pruned_model_comes_nearer_to_the_dense_one(training: Training) -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    before = left_out_divergence(student, teacher)
    course = run(student, teacher, training.changed(steps=30, check_every=10))
    after = left_out_divergence(student, teacher)
    assert len(course.losses) == 30
    assert course.losses[-1] < 0.8 * course.losses[0]
    assert after < before
    assert [check.steps for check in course.checks] == [0, 10, 20, 30]
    assert course.checks[0].divergence == pytest.approx(before, rel=1e-4)
    assert course.best.divergence == pytest.approx(after, rel=1e-3)


def test_half_precision_products_train_weights_that_stay_in_float32() -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    losses = run(student, teacher.bfloat16(), TRAINING.changed(steps=30), autocast=torch.bfloat16).losses
    assert losses[-1] < 0.7 * losses[0]
    assert {weight.dtype for weight in student.parameters()} == {torch.float32}


@pytest.mark.parametrize("training", [TRAINING, SCALES], ids=["all", "scales"])
def test_no_steps_change_nothing(training: Training) -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    before = copy.deepcopy(student)
    assert run(student, teacher, training.changed(steps=0)).losses == ()
    assert same_weights(student, before)


def test_a_copy_of_the_dense_model_stays_as_it_is() -> None:
    teacher = make_tiny_model().requires_grad_(False)
    student = copy.deepcopy(teacher)
    course = run(student, teacher)
    assert course.losses == (0.0,) * TRAINING.steps
    assert course.best == course.checks[0]
    assert same_weights(student, teacher)


@pytest.mark.parametrize("training", [TRAINING, SCALES], ids=["all", "scales"])
def test_training_that_only_does_harm_ends_early_and_is_undone(training: Training) -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    before = copy.deepcopy(student)
    # AdamW's steps are as large as the learning rate, whatever the gradient.
    course = run(student, teacher, training.changed(steps=40, learning_rate=5.0, patience=2))
    assert len(course.losses) == 4
    assert course.best.steps == 0
    assert same_weights(student, before)


def test_little_text_trained_on_for_long_is_memorised() -> None:
    losses = (1.0, 0.4, 0.2, 0.2)
    checks = (Check(0, 1.0, {}), Check(2, 0.7, {}), Check(4, 0.5, {}))
    assert Course(losses, checks, 4).memorised(TRAINING)
    assert not Course(losses, (*checks, Check(4, 0.39, {})), 4).memorised(TRAINING)
    assert not Course((), checks[:1], 4).memorised(TRAINING)


@pytest.mark.parametrize("tied", [True, False])
def test_shapes_embeddings_and_head_stay(tied: bool) -> None:
    teacher = make_tiny_model(tie_word_embeddings=tied)
    student = pruned(teacher)
    shapes = {name: weight.shape for name, weight in student.state_dict().items()}
    run(student, teacher)
    assert {name: weight.shape for name, weight in student.state_dict().items()} == shapes
    assert torch.equal(student.model.embed_tokens.weight, teacher.model.embed_tokens.weight)
    assert torch.equal(student.lm_head.weight, teacher.lm_head.weight)
    assert (student.lm_head.weight is student.model.embed_tokens.weight) == tied


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "mixtral", "gemma2"])
def test_all_of_the_decoder_is_trained(family: str) -> None:
    teacher, student = tiny(family, vocab_size=258), tiny(family, vocab_size=258)
    for weight in trainable(student).values():
        weight.data += 0.05 * torch.randn_like(weight)
    before = copy.deepcopy(student)
    # Slowly, because a run without a better check ends in the weights that it began with.
    course = run(student, teacher, TRAINING.changed(learning_rate=1e-3))
    assert course.checks[-1].divergence < course.checks[0].divergence
    names = set(trainable(student))
    assert all(
        torch.equal(weight, other) == (name not in names)
        for (name, weight), other in zip(student.named_parameters(), before.parameters(), strict=True)
    )
    assert not any(weight.requires_grad for weight in student.parameters())


@pytest.mark.parametrize("rate", [0.01, 0.5], ids=["best at the end", "best before the stop"])
@pytest.mark.parametrize("training", [TRAINING, SCALES], ids=["all", "scales"])
def test_a_run_that_was_stopped_ends_in_the_same_bits(training: Training, rate: float) -> None:
    stop_and_go_on(run, training.changed(learning_rate=rate), 3)


def test_small_batches_add_up_to_the_whole_one() -> None:
    teacher = make_tiny_model()
    one, other = pruned(teacher), pruned(teacher)
    run(one, teacher, TRAINING.changed(steps=2))
    run(other, teacher, TRAINING.changed(steps=2, micro_batch_size=4))
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.allclose(ours, theirs, atol=1e-4) for ours, theirs in pairs)


@pytest.mark.parametrize("training", [TRAINING, SCALES], ids=["all", "scales"])
def test_layers_that_run_again_train_to_the_same_weights(training: Training) -> None:
    teacher = make_tiny_model()
    one, other = pruned(teacher), pruned(teacher)
    course = run(one, teacher, training)
    forward = other.model.layers[0].forward
    assert run(other, teacher, training.changed(checkpointing=True)) == course
    assert same_weights(one, other)
    assert other.model.layers[0].forward == forward


def test_the_parameters_that_are_trained_are_counted() -> None:
    student = pruned(make_tiny_model())
    before = copy.deepcopy(student)
    # Three layers of 24 mlp channels and 32 of attention, two norms of 32 each, and the final norm.
    assert trained_parameters(student, SCALES) == 3 * (24 + 32 + 2 * 32) + 32
    assert trained_parameters(student, TRAINING) == sum(one.numel() for one in trainable(student).values())
    assert same_weights(student, before)


def test_a_loss_that_is_not_finite_is_one_message() -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    student.model.norm.weight.data[0] = torch.inf
    with pytest.raises(InputError, match=r"recover: the divergence from the dense model is nan before any"):
        run(student, teacher)


def test_domains_are_drawn_in_the_shares_of_the_mixture() -> None:
    order = draws({"news": 5, "self": 4, "unused": 3}, MIXTURE, 90, seed=0)
    for count in (3, 30, 90):
        drawn = Counter(domain for domain, _ in order[:count])
        assert drawn == {"news": count * 2 // 3, "self": count // 3}


def test_rows_are_shuffled_and_each_comes_once_a_round() -> None:
    order = draws({"news": 5, "self": 4}, MIXTURE, 90, seed=0)
    rows = [row for domain, row in order if domain == "news"]
    rounds = [rows[start : start + 5] for start in range(0, 60, 5)]
    assert all(sorted(one) == list(range(5)) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_the_order_follows_from_the_seed() -> None:
    counts = {"news": 5, "self": 4}
    assert draws(counts, MIXTURE, 40, seed=1) == draws(counts, MIXTURE, 40, seed=1)
    assert draws(counts, MIXTURE, 40, seed=1) != draws(counts, MIXTURE, 40, seed=2)
