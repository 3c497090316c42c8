"""On an accelerator: the same results as on the CPU, and models larger than the memory they are given."""

import copy
from collections.abc import Iterator

import pytest
import torch
from transformers import LlamaForCausalLM

from secateurs.devices import placement as devices
from secateurs.devices.placement import passing_through, place
from secateurs.heal.healed import Healed
from secateurs.heal.layers import HealingText, cut_and_heal
from secateurs.heal.ridge import Moments
from secateurs.inference.loss import sequence_losses
from secateurs.inference.norms import fused_norms
from secateurs.inference.writing import Looks, write
from secateurs.kinds.sites import sites_of
from secateurs.measure.capture import capture
from secateurs.settings.pruning import Capture, Surgery
from secateurs.text.rows import Text
from tests import healing
from tests.families.test_families import half_masks
from tests.healing import IDS, TEXT
from tests.inference.test_writing import PROMPTS, likeliest
from tests.tiny import make_tiny_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def healed(
    model: LlamaForCausalLM, device: torch.device, method: str = "residual"
) -> tuple[LlamaForCausalLM, Healed]:
    text = HealingText({"text": IDS}, {"text": 1.0}, {"text": IDS.flip(0)})
    masks, surgery = half_masks(model, ("mlp", "attention")), Surgery(heal=method, alpha=0.5, ridge=0.1)
    return healing.healed(model, masks, surgery, text, batch_size=2, device=device)


def test_surgery_streams_to_the_same_weights() -> None:
    model = make_tiny_model()
    (on_cpu, _), (on_gpu, _) = healed(model, torch.device("cpu")), healed(model, CUDA)
    for (name, expected), found in zip(on_cpu.named_parameters(), on_gpu.parameters(), strict=True):
        assert found.device.type == "cpu"
        assert torch.allclose(found, expected, atol=1e-3), name


def test_auto_finds_the_same_divergences_as_on_the_cpu() -> None:
    model = make_tiny_model()
    _, on_cpu = healed(model, torch.device("cpu"), "auto")
    _, on_gpu = healed(model, CUDA, "auto")
    assert on_gpu.method == on_cpu.method
    assert on_gpu.divergences == pytest.approx(on_cpu.divergences, rel=1e-3)


def test_the_memory_of_surgery_does_not_grow_with_depth() -> None:
    peaks = []
    for depth in (4, 16):
        torch.cuda.reset_peak_memory_stats()
        healed(make_tiny_model(num_hidden_layers=depth, intermediate_size=4096), CUDA)
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < 1.05 * peaks[0]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("offloaded", [False, True])
def test_capture_says_the_same_as_on_the_cpu(
    checkpointing: bool, offloaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
        settings = Capture(checkpointing=checkpointing, batch_size=2)
        found = capture(model, sites_of(model), Text({"text": IDS}), settings)["text"].statistics
        return {f"{site}/{name}": v for site, one in found.items() for name, v in one.items()}

    expected = take(make_tiny_model().requires_grad_(False))
    if offloaded:
        # Room for a part of the model only, so that accelerate leaves the rest in host memory.
        monkeypatch.setattr(devices, "get_balanced_memory", lambda *_, **__: {0: 70_000, "cpu": "8GB"})
    spread = place(make_tiny_model().requires_grad_(False), "sharded")
    assert ("cpu" in set(spread.hf_device_map.values())) == offloaded
    found = take(spread)
    for name, values in expected.items():
        assert torch.allclose(found[name], values, rtol=1e-3, atol=1e-8), name


def test_fused_norms_are_nearer_to_float32_than_the_models_own_code() -> None:
    model = make_tiny_model().requires_grad_(False).to(CUDA)
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight += 0.3 * torch.randn_like(weight)
    model.to(torch.bfloat16)

    def stream_and_gradient(of: LlamaForCausalLM) -> tuple[torch.Tensor, torch.Tensor]:
        entering = of.get_input_embeddings()(IDS.to(CUDA)).requires_grad_()
        hidden = of.base_model(inputs_embeds=entering).last_hidden_state
        hidden.float().square().mean().backward()
        return hidden.detach().float(), entering.grad.float()

    exact, own = stream_and_gradient(copy.deepcopy(model).float()), stream_and_gradient(model)
    with fused_norms(model):
        assert sum("forward" in vars(module) for module in model.modules()) == 7
        fused = stream_and_gradient(model)
    assert not any("forward" in vars(module) for module in model.modules())
    for expected, before, found in zip(exact, own, fused, strict=True):
        assert float((found - expected).norm()) < 1.1 * float((before - expected).norm())


def test_what_a_model_writes_does_not_depend_on_the_kernels_of_attention() -> None:
    model = make_tiny_model().requires_grad_(False)
    expected = write(model, PROMPTS, 24, likeliest, Looks(4))
    assert write(model.to(CUDA), PROMPTS, 24, likeliest, Looks(4)) == expected


def test_a_model_passes_through_the_device_and_is_as_it_was() -> None:
    model = make_tiny_model(tie_word_embeddings=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = sequence_losses(model, IDS)
        with passing_through(model, CUDA):
            found = sequence_losses(model, IDS.to(CUDA))
        again = sequence_losses(model, IDS)
    assert torch.allclose(found.cpu(), expected, atol=1e-4)
    assert torch.equal(again, expected)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_surgery_gives_back_the_very_weights_that_it_left_as_they_were() -> None:
    model = make_tiny_model().requires_grad_(False)
    before = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    cut_and_heal(
        model,
        half_masks(model, ("mlp",)),
        TEXT,
        Surgery(heal="residual", alpha=0.5, ridge=0.1),
        device=CUDA,
        batch_size=2,
        on_layer=lambda: None,
    )
    moved = {name for name, weight in model.named_parameters() if weight.data_ptr() != before[name]}
    assert moved == {name for name in before if ".mlp." in name}


def test_moments_of_half_precision_are_those_of_float64_but_for_rounding() -> None:
    x = torch.randn(4, 512, 256, device=CUDA, dtype=torch.bfloat16)
    target = torch.randn(4, 512, 128, device=CUDA)
    moments = Moments(256, 128, CUDA)
    moments.add(x, target, 1.0)
    rows, targets = x.flatten(0, 1).double(), target.flatten(0, 1).double()
    for found, exact in (
        (moments.gram.tril(), (rows.T @ rows).tril()),
        (moments.cross, targets.T @ rows),
    ):
        # Targets in TF32 would be off by 3e-4, products kept in bfloat16 by 1e-3.
        assert float((found - exact).norm() / exact.norm()) < 2e-5
