"""The presets: valid params, and budgets that the real architectures can meet (on the meta device)."""

import re
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from secateurs.choose.allocation import candidates_of, uniform_masks
from secateurs.families.decoder import decoder_parameters
from secateurs.kinds.names import widths
from secateurs.kinds.sites import sites_of
from secateurs.settings.sources import HubDomain, HubModel, PackageContent, PackageModel
from secateurs.text.task_items import ADAPTERS, RUNS_CODE
from stages.params.file import read_params
from stages.params.method import budget_of
from tests.project import ROOT

PRESETS = ROOT / "stages/presets"
QWEN = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}

# As published: family, (hidden, mlp, layers, heads, KV heads, vocabulary), other fields, parameters in all.
PUBLISHED: dict[str, tuple[str, tuple[int, ...], dict[str, Any], int]] = {
    "qwen2.5-7b": (
        "qwen2",
        (3584, 18944, 28, 28, 4, 152064),
        {**QWEN, "max_position_embeddings": 131072},
        7_615_616_512,
    ),
    "qwen2.5-32b": (
        "qwen2",
        (5120, 27648, 64, 40, 8, 152064),
        {**QWEN, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5},
        32_763_876_352,
    ),
    "llama-3.1-8b": (
        "llama",
        (4096, 14336, 32, 32, 8, 128256),
        {"rope_parameters": LLAMA3, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5},
        8_030_261_248,
    ),
    "qwen3-8b": (
        "qwen3",
        (4096, 12288, 36, 32, 8, 151936),
        {**QWEN, "max_position_embeddings": 40960, "head_dim": 128},
        8_190_735_360,
    ),
    "gemma-3-1b": (
        "gemma3_text",
        (1152, 6912, 26, 4, 1, 262144),
        {
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 512,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": True,
        },
        999_885_952,
    ),
}
# Presets whose model lies in archives of the package index, and that need no hub.
CODER = {**QWEN, "max_position_embeddings": 32768, "tie_word_embeddings": True}
ARCHIVED: dict[str, tuple[str, tuple[int, ...], dict[str, Any], int]] = {
    "qwen2.5-coder-0.5b": ("qwen2", (896, 4864, 24, 14, 2, 151936), CODER, 494_032_768),
    "qwen2.5-coder-1.5b": ("qwen2", (1536, 8960, 28, 12, 2, 151936), CODER, 1_543_714_304),
}
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers")
SIZES += ("num_attention_heads", "num_key_value_heads", "vocab_size")


def published_config(name: str) -> dict[str, Any]:
    """The fields of the config of a preset's model that are not their class's defaults."""
    _, sizes, others, _ = (PUBLISHED | ARCHIVED)[name]
    return dict(zip(SIZES, sizes, strict=True)) | {"tie_word_embeddings": False} | others


def architecture(name: str) -> PreTrainedModel:
    config = AutoConfig.for_model((PUBLISHED | ARCHIVED)[name][0], **published_config(name))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def test_every_preset_is_tried() -> None:
    assert {file.stem for file in PRESETS.glob("*.yaml")} == set(PUBLISHED | ARCHIVED)


@pytest.mark.parametrize("name", PUBLISHED | ARCHIVED)
def test_the_command_in_its_header_copies_the_preset(name: str) -> None:
    preset = PRESETS / f"{name}.yaml"
    (copied,) = re.findall(r"cp (\S+) params\.yaml", preset.read_text(encoding="utf-8"))
    assert (ROOT / copied).samefile(preset)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_is_valid_and_pins_what_it_reads(name: str) -> None:
    params = read_params(PRESETS / f"{name}.yaml")
    assert isinstance(params.model, HubModel)
    revisions = [params.model.revision]
    for domain in params.domains.values():
        assert isinstance(domain, HubDomain)
        revisions.append(domain.revision)
    assert all(len(revision) == 40 and int(revision, 16) for revision in revisions)
    assert len(set(revisions)) == len(revisions)


@pytest.mark.parametrize("name", ARCHIVED)
def test_a_preset_without_a_hub_pins_all_that_it_reads(name: str) -> None:
    params = read_params(PRESETS / f"{name}.yaml")
    assert isinstance(params.model, PackageModel)
    assert len(set(params.model.package)) == len(params.model.package) > 1
    others = [*params.domains.values(), *params.benchmarks.values()]
    assert all(isinstance(one, PackageContent) for one in others)
    assert set(params.benchmarks) <= set(ADAPTERS)
    if params.evaluate.limit == 0:
        assert set(params.benchmarks) == set(ADAPTERS) - RUNS_CODE - {"gsm8k_cot_zeroshot"}


@pytest.mark.parametrize("name", PUBLISHED | ARCHIVED)
def test_the_real_architecture_meets_the_budget(name: str) -> None:
    params, model = read_params(PRESETS / f"{name}.yaml"), architecture(name)
    assert model.num_parameters() == (PUBLISHED | ARCHIVED)[name][3]
    total = decoder_parameters(model)
    budget = budget_of(params)
    scores = {
        site.name: torch.arange(site.units).double() for site in sites_of(model, tuple(params.prune.sites))
    }
    candidates = candidates_of(model, budget, scores, {})
    masks = uniform_masks(candidates, round(params.prune.sparsity * total), budget.floor)
    (width,) = set(widths(masks, "mlp"))
    assert width % params.prune.width_multiple == 0
    removed = sum(one.cost * int((~masks[one.name]).sum()) for one in candidates)
    assert 0.2 <= removed / total < 0.22
