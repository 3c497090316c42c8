"""Families that nothing names: what is measured, healed and saved of them, on twins of their examples."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, PreTrainedModel

from secateurs.checkpoints.loading import load_model
from secateurs.checkpoints.modelling_file import MODELLING_FILE
from secateurs.checkpoints.saving import save_model
from secateurs.errors import InputError
from secateurs.families.decoder import decoder_parameters
from secateurs.families.discover import family_of
from secateurs.families.examples import example_config
from secateurs.families.twins import twin, twin_config
from secateurs.heal import layers
from secateurs.kinds.sites import all_kept_masks
from secateurs.pruner import prune_model
from secateurs.settings.method import settings_of
from secateurs.text.rows import Text
from tests.families.test_families import (
    captured,
    half_masks,
    left_by,
    logits,
    opened,
    pruned,
    reloaded,
    uneven_masks,
)

# Transposed modules; tokens flattened; parallel blocks; a factor; biases in experts; shared experts beside
# others; states; a norm and a factor by layer; norms after the addition.
SAMPLE = ("gpt2", "opt", "falcon", "granite", "gpt_oss", "qwen2_moe", "bamba", "gemma4_text", "bert")


def small(model_type: str) -> PreTrainedModel:
    config = twin_config(example_config(model_type))
    if config.num_hidden_layers > 2 and model_type != "bamba":
        config = twin_config(AutoConfig.for_model(model_type, num_hidden_layers=2, is_decoder=True))
    return twin(config)


@pytest.mark.parametrize("model_type", SAMPLE)
def test_capture_sees_every_channel(model_type: str) -> None:
    found = captured(opened(small(model_type)))
    mlps = {name: fisher for name, fisher in found.items() if "/mlp" in name}
    assert mlps
    assert all(bool(fisher.gt(0).float().mean() > 0.9) for fisher in mlps.values())


@torch.no_grad()
@pytest.mark.parametrize("model_type", SAMPLE)
@pytest.mark.parametrize("method", ["least_squares", "residual"])
def test_healing_brings_the_model_nearer_to_the_dense_one(model_type: str, method: str) -> None:
    assert left_by(small(model_type), method) < 0.95


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["gpt2", "opt", "falcon"])
def test_layers_of_different_widths_save_and_load(model_type: str, tmp_path: Path) -> None:
    model = small(model_type)
    smaller = pruned(model, uneven_masks(opened(model)), "residual")
    assert torch.allclose(logits(reloaded(smaller, tmp_path)), logits(smaller), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["bloom", "mpt", "gpt_neox_japanese"])
def test_widths_that_a_class_makes_of_the_stream_are_in_the_modelling_file(
    model_type: str, tmp_path: Path
) -> None:
    model = small(model_type)
    smaller = pruned(model, half_masks(opened(model), ("mlp",)), "residual")
    loaded = reloaded(smaller, tmp_path)
    assert torch.allclose(logits(loaded), logits(smaller), atol=1e-5)
    assert loaded.num_parameters() == smaller.num_parameters() < model.num_parameters()
    assert torch.equal(logits(load_model(tmp_path, "float32")), logits(loaded))
    save_model(loaded, tmp_path / "twice")
    assert torch.equal(logits(load_model(tmp_path / "twice", "float32")), logits(loaded))


@torch.no_grad()
def test_where_nothing_goes_the_stock_class_stays(tmp_path: Path) -> None:
    model = small("bloom")
    same = pruned(model, all_kept_masks(opened(model)), "residual")
    save_model(same, tmp_path)
    assert not (tmp_path / MODELLING_FILE).exists()


@torch.no_grad()
def test_layers_that_hand_on_more_than_the_stream_are_not_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("gpt2")
    masks = half_masks(opened(model), ("mlp",))
    monkeypatch.setattr(layers, "family_of", lambda config: replace(family_of(config), apart=False))
    with pytest.raises(
        InputError, match=r"surgery.heal: residual: not for gpt2, whose layers hand each other"
    ):
        pruned(model, masks, "residual")


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_oss", "deepseek_v3"])
def test_the_whole_loop_prunes_a_family_that_nothing_names(model_type: str, tmp_path: Path) -> None:
    config = twin_config(example_config(model_type))
    model = twin(config)
    text = Text({"d": torch.randint(3, 96, (3, 12), generator=torch.Generator().manual_seed(0))})
    settings = settings_of(
        {
            "prune.sparsity": 0.1,
            "prune.width_multiple": 8,
            "capture.sequences": 1,
            "surgery.sequences": 2,
            "surgery.choice_sequences": 1,
            "device": "cpu",
        }
    )
    found = prune_model(model, text, settings)
    removed = 1 - decoder_parameters(found.model) / decoder_parameters(model)
    assert 0.1 <= removed < 0.2
    with torch.no_grad():
        assert torch.allclose(logits(reloaded(found.model, tmp_path)), logits(found.model), atol=1e-4)
