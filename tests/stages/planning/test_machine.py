"""What does not fit is said, with what to do about it; what fits is not spoken of."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, Qwen2Config

from secateurs.estimate.memory_needs import Need, memory_needs
from secateurs.families.twins import shapes_of
from secateurs.recover.memory import PROGRAM
from stages.params.file import Params
from stages.params.method_settings import method_settings
from stages.planning.estimate import reading_of
from stages.planning.machine import Machine, this_machine, warnings
from tests.project import ROOT, read_yaml
from tests.stages.planning.test_estimate import params
from tests.tiny import make_tiny_model

SMALL = Machine("small", torch.device("cpu"), memory=10**9, free=10**9)


def said(memory: Mapping[str, float], disk: float = 0.0, **groups: dict[str, object]) -> list[str]:
    needs = {stage: Need(size, size) for stage, size in memory.items()}
    return list(warnings(params(**groups), SMALL, needs, disk))


def needs(settings: Params, model: PreTrainedModel, device: str) -> dict[str, Need]:
    return memory_needs(model, method_settings(settings), reading_of(settings), device)


def test_what_fits_is_not_spoken_of() -> None:
    assert said({"capture": 9e8, "surgery": 9e8}, disk=9e8) == []


def test_a_stage_that_does_not_fit_is_named_with_a_remedy() -> None:
    (line,) = said({"capture": 2e9, "surgery": 9e8})
    assert line.startswith("capture needs about 2.00 GB of memory at once and small has 1.00 GB; ")
    assert "capture.checkpointing: true; capture.batch_size: 1" in line


def test_a_forward_pass_that_does_not_fit_can_be_streamed() -> None:
    forward = {"capture": {"gradients": False, "batch_size": 1}, "mask": {"metric": "wanda"}}
    (line,) = said({"capture": 2e9}, **forward)
    assert line.endswith("; compute.dtype: bfloat16 halves it; capture.layers: streamed")


def test_a_disk_that_is_too_small_is_named() -> None:
    assert said({}, disk=3e9) == ["the run leaves about 3.00 GB on a disk with 1.00 GB free"]


def test_a_model_over_several_accelerators_is_not_held_against_one() -> None:
    assert said({"capture": 2e9}, compute={"device": "sharded"}) == []


def test_the_machine_has_memory_and_a_disk() -> None:
    machine = this_machine(torch.device("cpu"))
    assert machine.memory > 10**8
    assert machine.free > 0


def test_checkpointing_and_half_precision_need_less() -> None:
    model = make_tiny_model()

    def usual(stage: str, **groups: dict[str, object]) -> float:
        return needs(params(**groups), model, "cpu")[stage].usual

    assert usual("capture", capture={"checkpointing": True}) < usual("capture")
    assert usual("surgery", compute={"dtype": "bfloat16"}) < usual("surgery")


def test_without_healing_surgery_holds_the_model_and_one_gram_matrix() -> None:
    model = make_tiny_model()
    surgery = needs(params(surgery={"heal": "none"}), model, "cpu")["surgery"]
    weights = 4 * sum(weight.numel() for weight in model.parameters())
    assert surgery.usual == surgery.least == PROGRAM + 1.1 * (weights + 16 * 48**2)


def shape(hidden: int, inner: int, layers: int, heads: tuple[int, int], tied: bool) -> PreTrainedModel:
    """One of Qwen2.5's models without weights."""
    config = Qwen2Config(
        vocab_size=151_936 if tied else 152_064,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        tie_word_embeddings=tied,
    )
    return shapes_of(config)


SEVEN = (3584, 18944, 28, (28, 4), False)


@pytest.mark.parametrize(
    ("key", "sizes"),
    [("0.5B", (896, 4864, 24, (14, 2), True)), ("1.5B", (1536, 8960, 28, (12, 2), True)), ("7B", SEVEN)],
)
def test_estimates_are_near_what_an_accelerator_was_seen_to_need(key: str, sizes: Any) -> None:
    seen = json.loads((ROOT / "data/bench/sizes.json").read_text(encoding="utf-8"))[key]["figures"]
    # The bench's work: 32 sequences of 2,048 tokens of one domain, two a batch.
    settings = params(
        compute={"dtype": "bfloat16"},
        corpus={"sequence_length": 2048, "calibration_sequences": 64},
        capture={"batch_size": 2},
        surgery={"sequences": 32},
        mixture=dict.fromkeys(read_yaml()["mixture"], 0.0) | {"news": 1.0},
    )
    needed = needs(settings, shape(*sizes), "cuda")
    for stage, name in (("capture", "Fisher peak, GiB"), ("surgery", "surgery peak, GiB")):
        assert needed[stage].usual / 2**30 == pytest.approx(seen[name], rel=0.16)


def test_an_accelerator_is_said_to_be_too_small_only_where_one_sequence_does_not_fit() -> None:
    settings = params(
        compute={"dtype": "bfloat16"},
        corpus={"sequence_length": 2048},
        sample={"documents": 400},
        capture={"batch_size": 16},
    )
    needed = needs(settings, shape(*SEVEN), "cuda")
    assert needed["capture"].usual > 80e9 > needed["capture"].least
    large = Machine("card", torch.device("cuda"), memory=80 * 10**9, free=10**12)
    assert list(warnings(settings, large, needed, 0.0)) == []
    small = Machine("card", torch.device("cuda"), memory=24 * 10**9, free=10**12)
    (line,) = [one for one in warnings(settings, small, needed, 0.0) if one.startswith("capture")]
    # Batches shrink by themselves there.
    assert line.endswith("; capture.checkpointing: true")
