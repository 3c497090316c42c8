"""The presets: valid params, and budgets that the real architectures can meet (on the meta device)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, PreTrainedModel

from secateurs.choose.allocation import uniform_masks
from secateurs.choose.candidates import candidates_of
from secateurs.errors import InputError
from secateurs.estimate.memory_needs import memory_needs
from secateurs.families.decoder import decoder_parameters
from secateurs.families.twins import shapes_of
from secateurs.kinds.names import widths
from secateurs.kinds.sites import sites_of
from secateurs.settings.sources import HubDomain, HubModel, PackageContent, PackageModel
from secateurs.text.task_items import ADAPTERS, RUNS_CODE
from stages import preset
from stages.params.file import Params, parse_params
from stages.params.method_settings import method_settings
from stages.params.overlay import overlaid, preset_names, whole_preset
from stages.planning.estimate import reading_of
from stages.planning.machine import Machine, warnings
from tests.project import PARAMS, commit_all, invoke, run

QWEN = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
GEMMA = {
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}

# As published: family, (hidden, mlp, layers, heads, KV heads, vocabulary), other fields, parameters in all.
PUBLISHED: dict[str, tuple[str, tuple[int, ...], dict[str, Any], int]] = {
    "qwen2.5-7b": (
        "qwen2",
        (3584, 18944, 28, 28, 4, 152064),
        {**QWEN, "max_position_embeddings": 131072},
        7_615_616_512,
    ),
    "qwen2.5-7b-instruct": (
        "qwen2",
        (3584, 18944, 28, 28, 4, 152064),
        {**QWEN, "max_position_embeddings": 32768},
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
        GEMMA,
        999_885_952,
    ),
}
# Presets whose model lies in archives of the package index, and that need no hub.
CODER = {**QWEN, "max_position_embeddings": 32768, "tie_word_embeddings": True}
ARCHIVED: dict[str, tuple[str, tuple[int, ...], dict[str, Any], int]] = {
    "qwen2.5-coder-0.5b": ("qwen2", (896, 4864, 24, 14, 2, 151936), CODER, 494_032_768),
    "gemma-3-270m": ("gemma3_text", (640, 2048, 18, 4, 1, 262144), GEMMA, 268_098_176),
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
    return shapes_of(config, dtype=torch.bfloat16)


def own_params() -> str:
    return PARAMS.read_text(encoding="utf-8")


def preset_params(name: str) -> Params:
    return parse_params(whole_preset(name, own_params()), Path(name))


def test_every_preset_is_tried() -> None:
    assert set(preset_names()) == set(PUBLISHED | ARCHIVED)


def test_the_command_writes_the_preset_over_what_is_committed(here: Path) -> None:
    file = here / "params.yaml"
    file.write_text(own_params(), encoding="utf-8")
    run(here, "git", "init", "--quiet")
    commit_all(here, "Own")
    run(here, "sh", "-c", "python -m stages.preset qwen2.5-7b > params.yaml")
    assert file.read_text(encoding="utf-8") == whole_preset("qwen2.5-7b", own_params())
    commit_all(here, "A preset")
    again = run(here, "python", "-m", "stages.preset", "qwen3-8b", status=1)
    assert "params.yaml: is the preset qwen2.5-7b;" in again
    before = run(here, "python", "-m", "stages.preset", "qwen3-8b", "--of", "HEAD~1")
    assert before == whole_preset("qwen3-8b", own_params())


@pytest.mark.parametrize("name", ["qwen2.5-7b", "qwen2.5-7b-instruct"])
def test_a_card_of_80_gb_prunes_7b_as_the_preset_is(name: str) -> None:
    params = preset_params(name)
    needs = memory_needs(architecture(name), method_settings(params), reading_of(params), "cuda")
    assert max(need.least for need in needs.values()) < 50e9
    assert needs["capture"].usual < 80e9
    card = Machine("card", torch.device("cuda"), memory=80 * 10**9, free=10**12)
    assert list(warnings(params, card, needs, 0.0)) == []


def test_the_preset_of_an_instruct_model_reads_dialogues_and_asks_word_problems() -> None:
    params = preset_params("qwen2.5-7b-instruct")
    assert params.mixture["dialogues"] == 7
    assert "gsm8k" in params.benchmarks
    assert params.evaluate.chat_template


def test_an_unknown_name_lists_the_presets() -> None:
    output = invoke(preset.main, "qwen", status=2)
    assert all(name in output for name in preset_names())


def test_without_a_commit_there_is_nothing_to_lay_a_preset_over(here: Path) -> None:
    assert "Error: --of: HEAD: params.yaml: fatal: " in invoke(preset.main, "qwen2.5-7b", status=1)


BASE = """\
# All settings.

# The model.
model:
  source: package  # package or hub
  member: >-
    a.gguf

# How.
surgery:
  sequences: 22  # to heal by
  train: {epochs: 0}  # passes
"""


def test_a_group_is_replaced_whole_and_a_value_in_its_place() -> None:
    preset = "model:\n  source: hub  # hub\nsurgery:\n  sequences: 1e2\n  train: {epochs: 4}\n"
    assert overlaid(BASE, preset, "x") == (
        "# All settings.\n\n# The model.\nmodel:\n  source: hub  # hub\n\n"
        "# How.\nsurgery:\n  sequences: 1e2  # to heal by\n  train: {epochs: 4}  # passes\n"
    )


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("surgery:\n  seqences: 3\n", "x: surgery.seqences: not a key of params.yaml"),
        ("surgry: {}\n", "x: surgry: not a key of params.yaml"),
        ("surgery: [\n", "x: not valid YAML: "),
        ("# nothing\n", "x: not a mapping of groups"),
    ],
)
def test_a_preset_that_does_not_fit_is_refused_by_name(preset: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        overlaid(BASE, preset, "x")


def test_a_preset_of_an_older_schema_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"^stages/presets/qwen2.5-7b.yaml: mask.added: unknown key$"):
        whole_preset("qwen2.5-7b", own_params().replace("mask:\n", "mask:\n  added: 1\n"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_is_valid_and_pins_what_it_reads(name: str) -> None:
    params = preset_params(name)
    assert isinstance(params.model, HubModel)
    revisions = [params.model.revision]
    for domain in params.domains.values():
        assert isinstance(domain, HubDomain)
        revisions.append(domain.revision)
    assert all(len(revision) == 40 and int(revision, 16) for revision in revisions)
    assert len(set(revisions)) == len(revisions)


@pytest.mark.parametrize("name", ARCHIVED)
def test_a_preset_without_a_hub_pins_all_that_it_reads(name: str) -> None:
    params = preset_params(name)
    assert isinstance(params.model, PackageModel)
    assert len(set(params.model.package)) == len(params.model.package) > 1
    others = [*params.domains.values(), *params.benchmarks.values()]
    assert all(isinstance(one, PackageContent) for one in others)
    assert set(params.benchmarks) <= set(ADAPTERS)
    if params.evaluate.limit == 0:
        # Of two ways to ask the same items one.
        assert set(params.benchmarks) == set(ADAPTERS) - {"gsm8k_cot_zeroshot", "humaneval"}
    assert params.evaluate.run_generated_code == bool(RUNS_CODE & set(params.benchmarks))


@pytest.mark.parametrize("name", PUBLISHED | ARCHIVED)
def test_the_real_architecture_meets_the_budget(name: str) -> None:
    params, model = preset_params(name), architecture(name)
    assert model.num_parameters() == (PUBLISHED | ARCHIVED)[name][3]
    total = decoder_parameters(model)
    budget = params.prune
    scores = {
        site.name: torch.arange(site.units).double() for site in sites_of(model, tuple(params.prune.sites))
    }
    candidates = candidates_of(model, budget, scores, {})
    masks = uniform_masks(candidates, round(params.prune.sparsity * total), budget.floor)
    (width,) = set(widths(masks, "mlp"))
    assert width % params.prune.width_multiple == 0
    removed = sum(one.cost * int((~masks[one.name]).sum()) for one in candidates)
    assert 0 <= removed / total - params.prune.sparsity < 0.02


# An empty value is said to stand where the next key begins.
EMPTY = """model:
  name: a
  base_model:  # its id

# Where: text.
domains:
  t: 1
recover:
  minutes:  # empty: all
  steps: 9
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model:\n  name: b\n", EMPTY.replace("a\n  base_model:  # its id", "b")),
        ("domains:\n  u:\n", EMPTY.replace("t: 1", "u:")),
        ("recover:\n  minutes: 5\n", EMPTY.replace("minutes:", "minutes: 5")),
        ("recover:\n  steps:\n", EMPTY.replace("steps: 9", "steps: ")),
    ],
)
def test_what_is_empty_takes_nothing_after_it_away(text: str, expected: str) -> None:
    assert overlaid(EMPTY, text, "mine") == expected
