"""What the plan says of models that are measured layer by layer: shapes of 70B and of a mixture of 235B."""

from typing import Any

import pytest
from transformers import LlamaConfig, PreTrainedModel, Qwen3MoeConfig

from secateurs.estimate.memory_needs import memory_needs
from secateurs.estimate.read_tokens import Reading
from secateurs.estimate.streaming_needs import streaming, streaming_lines
from secateurs.estimate.work import DISK_SPEED, Work
from secateurs.families.twins import shapes_of
from secateurs.settings.method import Settings
from stages.params.file import Params
from stages.params.method_settings import method_settings
from stages.planning.estimate import START_SECONDS, estimate_work, reading_of
from tests.stages.planning.test_estimate import params
from tests.tiny import make_tiny_model

TOKENS = 8 * 16 * 1024


def settings(layers: str = "streamed", sites: tuple[str, ...] = ("mlp",), **groups: Any) -> Params:
    return params(
        compute={"dtype": "bfloat16"},
        corpus={"sequence_length": 1024},
        sample={"documents": 400},
        mask={"metric": "reap" if "experts" in sites else "wanda"} | groups.pop("mask", {}),
        prune={"sites": list(sites)},
        capture={"gradients": False, "layers": layers, "sequences": 16, "batch_size": 1},
        **groups,
    )


def seventy() -> PreTrainedModel:
    """Llama 3.1 70B without weights."""
    return shapes_of(
        LlamaConfig(
            vocab_size=128_256,
            hidden_size=8192,
            intermediate_size=28_672,
            num_hidden_layers=80,
            num_attention_heads=64,
            num_key_value_heads=8,
            tie_word_embeddings=False,
        )
    )


def mixture() -> PreTrainedModel:
    """Qwen3-235B-A22B without weights."""
    return shapes_of(
        Qwen3MoeConfig(
            vocab_size=151_936,
            hidden_size=4096,
            intermediate_size=12_288,
            moe_intermediate_size=1536,
            num_hidden_layers=94,
            num_attention_heads=64,
            num_key_value_heads=4,
            head_dim=128,
            num_experts=128,
            num_experts_per_tok=8,
            tie_word_embeddings=False,
        )
    )


def read(model: PreTrainedModel, params: Params) -> tuple[PreTrainedModel, Settings, Reading]:
    return model, method_settings(params), reading_of(params)


def needed(model: PreTrainedModel, params: Params, device: str = "cuda") -> float:
    return memory_needs(*read(model, params), device)["capture"].usual


def capture_of(settings: Params, model: PreTrainedModel) -> Work:
    return {one.name: one for one in estimate_work(settings, model)}["capture, each round"]


def test_seventy_billion_are_measured_on_one_card_of_24() -> None:
    model = seventy()
    found = streaming(*read(model, settings()))
    # Two matrices of 128,256 rows; a layer of 856 M parameters; 16 kB a token.
    assert found.ends == 2 * (2 * 128_256 * 8192 + 8192)
    assert found.layer == 2 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28_672 + 2 * 8192)
    assert found.hidden == TOKENS * 8192 * 2 == pytest.approx(2.1e9, rel=0.03)
    assert found.read == pytest.approx(141e9, rel=0.01)
    assert needed(model, settings()) < 12e9
    assert needed(model, settings("resident")) > 141e9


@pytest.mark.slow
def test_a_mixture_of_235_billion_is_measured_on_one_card_of_24() -> None:
    model, chosen = mixture(), settings(sites=("experts",))
    found = streaming(*read(model, chosen))
    attention = 2 * 4096 * 64 * 128 + 2 * 4096 * 4 * 128 + 2 * 128
    assert found.layer == 2 * (attention + 128 * 3 * 4096 * 1536 + 128 * 4096 + 2 * 4096)
    assert found.hidden == TOKENS * 4096 * 2 == pytest.approx(1.07e9, rel=0.01)
    assert found.read == pytest.approx(470e9, rel=0.01)
    assert needed(model, chosen) < 16e9
    work = capture_of(chosen, model)
    assert work.read == found.read
    # Eight experts of 128 and what is beside them, and the output projections of the 120 others.
    routed = 94 * (attention - 256 + 8 * 3 * 4096 * 1536) + 151_936 * 4096
    assert work.operations == pytest.approx(TOKENS * 2 * (routed + 94 * 120 * 4096 * 1536), rel=1e-6)
    # Reading takes most of the time: at 300 TFLOP/s the operations take less than a minute and a half.
    operations, reading = work.operations / 3e14, found.read / DISK_SPEED
    assert work.seconds(3e14, START_SECONDS) == pytest.approx(3 * (START_SECONDS + operations + reading))
    assert operations < 90 < reading


def test_left_out_text_goes_through_both_models() -> None:
    model = make_tiny_model()
    judged = settings(mask={"left_out": 2}, surgery={"sequences": 16})
    plain = streaming(*read(model, settings())).hidden
    assert streaming(*read(model, judged)).hidden == (16 + 2 * 2) / 16 * plain


def test_on_a_cpu_hidden_states_and_what_a_layer_is_put_together_of_are_counted() -> None:
    model, chosen = make_tiny_model(), settings()
    found = streaming(*read(model, chosen))
    more = needed(model, chosen, "cpu") - needed(model, chosen)
    assert more == pytest.approx(1.1 * (found.layer + found.hidden))


def test_the_plan_says_it_of_a_streamed_capture_alone() -> None:
    model = make_tiny_model()
    first, second = streaming_lines(*read(model, settings()))
    assert first.startswith("Capture streams 3 layers: the device holds ")
    assert "; each round reads " in second
    assert list(streaming_lines(*read(model, settings("resident")))) == []
