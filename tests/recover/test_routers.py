"""Routers trained alone: which weights these are, and that they come nearer to the dense model."""

import copy
from typing import Any

import pytest
import torch

from secateurs.errors import SettingError
from secateurs.families.examples import example_config
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.families.twins import twin, twin_config
from secateurs.kinds.sites import cut, finish
from secateurs.recover.distillation import recover
from secateurs.recover.memory import trained_beside
from secateurs.recover.pairing import placed_student, precision_of
from secateurs.recover.routers import router_weights, routers
from secateurs.recover.sharing import share_equal
from secateurs.recover.trained import trained_parameters
from secateurs.recover.training import Course, Texts
from secateurs.settings.recovery import Training
from tests.kinds.test_experts import half, mixture
from tests.recover.test_distillation import TRAINING, same_weights
from tests.tiny import make_tiny_model

ROUTERS = TRAINING.changed(
    weights="routers", steps=20, learning_rate=0.003, batch_size=16, micro_batch_size=16, check_every=10
)
_GENERATOR = torch.Generator().manual_seed(3)
# Few numbers are trained, but an expert must be seen with many tokens.
TEXTS = Texts(
    {"news": torch.randint(2, 258, (200, 16), generator=_GENERATOR)},
    {"news": torch.randint(2, 258, (40, 16), generator=_GENERATOR)},
    {"news": 1.0},
)
# By family, what its routers make logits of. There are a bias in the logits, correction biases beside them
# that are a buffer and a parameter, sorted experts, and layers without experts.
FAMILIES = {
    "qwen2_moe": {"weight"},
    "gpt_oss": {"weight", "bias"},
    "deepseek_v3": {"weight"},
    "ernie4_5_moe": {"weight"},
    "llama4_text": {"weight"},
    "jamba": {"weight"},
}
GATES = {f"model.layers.{layer}.mlp.gate.weight" for layer in range(2)}


def without_half_of_the_experts(dense: Any) -> Any:
    student = open_experts(copy.deepcopy(dense))
    masks = half(student)
    cut(student, masks)
    finish(close_experts(student), masks)
    return student.requires_grad_(False)


def run(
    student: Any, dense: Any, training: Training = ROUTERS, autocast: torch.dtype | None = None
) -> Course:
    return recover(
        student, dense, TEXTS, training, autocast=autocast, snapshot=None, on_step=lambda take: None
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_all_that_makes_the_logits_of_a_router_and_nothing_else_is_trained(family: str) -> None:
    model = twin(twin_config(example_config(family))).eval().requires_grad_(False)
    ids = torch.randint(3, 95, (4, 16), generator=torch.Generator().manual_seed(0))
    with routers(model) as weights:
        for weight in weights.values():
            weight.requires_grad_(True)
        model(input_ids=ids, labels=ids).loss.backward()
        assert {name.rpartition(".")[2] for name in weights} == FAMILIES[family]
        assert all(weight.grad is not None and bool(weight.grad.any()) for weight in weights.values())
    count = model.config.to_dict().get("num_hidden_layers")
    assert len(weights) % len(FAMILIES[family]) == 0
    assert 0 < len(weights) // len(FAMILIES[family]) <= count


def test_routers_come_nearer_to_the_dense_model_and_all_else_stays() -> None:
    dense = mixture()
    student = without_half_of_the_experts(dense)
    before = copy.deepcopy(student.state_dict())
    course = run(student, dense)
    assert course.best.divergence < 0.98 * course.checks[0].divergence
    changed = {name for name, one in student.state_dict().items() if not torch.equal(one, before[name])}
    assert changed == GATES


def test_routers_that_got_no_better_are_those_of_before() -> None:
    dense = mixture()
    student = without_half_of_the_experts(dense)
    before = copy.deepcopy(student)
    course = run(student, dense, ROUTERS.changed(learning_rate=100.0, steps=2, check_every=1))
    assert course.best.steps == 0
    assert same_weights(student, before)


def test_frozen_weights_may_be_in_half_precision_and_are_shared_with_the_dense_model() -> None:
    dense = mixture().bfloat16().requires_grad_(False)
    student, before = without_half_of_the_experts(dense), copy.deepcopy(dense)
    student = placed_student(student, dense, ROUTERS, torch.device("cpu"), torch.bfloat16)
    assert student.model.embed_tokens.weight is dense.model.embed_tokens.weight
    course = run(student, dense, autocast=torch.bfloat16)
    assert course.best.divergence < 0.98 * course.checks[0].divergence
    assert {weight.dtype for weight in student.parameters()} == {torch.bfloat16}
    assert same_weights(dense, before)


def test_routers_that_are_the_dense_models_too_are_not_written_over() -> None:
    dense = mixture().bfloat16().requires_grad_(False)
    student, before = copy.deepcopy(dense), copy.deepcopy(dense)
    share_equal(student, dense)
    with routers(student) as weights:
        for weight in weights.values():
            weight.data += 1
    assert same_weights(dense, before)
    for name in GATES:
        assert torch.equal(student.get_parameter(name), (before.get_parameter(name).float() + 1).bfloat16())


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_half_precision_weights_run_beside_routers_in_float32(family: str) -> None:
    model = twin(twin_config(example_config(family))).eval().requires_grad_(False)
    ids = torch.randint(3, 95, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        with routers(model.bfloat16()) as weights, torch.autocast("cpu", torch.bfloat16):
            assert {weight.dtype for weight in weights.values()} == {torch.float32}
            found = model(input_ids=ids).logits.float()
    assert bool(found.isfinite().all())
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.9


def test_on_an_accelerator_a_mixture_whose_routers_are_trained_stays_in_half_precision() -> None:
    assert precision_of(ROUTERS, torch.bfloat16, torch.device("cuda")).student == torch.bfloat16


def test_as_many_parameters_are_counted_as_are_trained() -> None:
    model = mixture()
    assert trained_beside(ROUTERS, model) == trained_parameters(model, ROUTERS) == 2 * 8 * 32
    assert set(router_weights(model)) == GATES


def test_a_model_without_experts_has_no_routers() -> None:
    with pytest.raises(
        SettingError,
        match=r"^recover\.weights: routers: not for llama: no layer has experts that a router chooses among; "
        "choose scales, low_rank or all$",
    ):
        run(make_tiny_model(), make_tiny_model())
