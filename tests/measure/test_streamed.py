"""Statistics of layers that are read one at a time, against those of the whole model in memory."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3MoeConfig

from secateurs.checkpoints.loading import load_model
from secateurs.checkpoints.streaming import StreamedModel, stream_model
from secateurs.errors import InputError, SettingError
from secateurs.families.decoder import decoder_layers
from secateurs.families.discover import family_of
from secateurs.families.fused_experts import open_experts
from secateurs.kinds.kind import Masks
from secateurs.measure import streamed
from secateurs.measure.measure import measure
from secateurs.measure.streamed import measure_streamed
from secateurs.pruner import prune_model
from secateurs.settings.method import Settings, settings_of
from secateurs.text.rows import Text
from tests.tiny import make_tiny_model, save_uneven

CPU = torch.device("cpu")
IDS = torch.randint(2, 258, (12, 16), generator=torch.Generator().manual_seed(1))
ANSWERS = torch.rand(12, 16, generator=torch.Generator().manual_seed(2)) > 0.5
TEXT = Text({"news": IDS, "dialogues": IDS.flip(0)}, {"dialogues": ANSWERS})


def make_mixture() -> PreTrainedModel:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=258, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=8, num_experts_per_tok=2,
        mlp_only_layers=[0], initializer_range=0.2, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


MODELS = {"dense": make_tiny_model, "mixture": make_mixture}


def settings(sites: list[str], **changes: Any) -> Settings:
    keys = {"capture.gradients": False, "capture.layers": "streamed", "capture.sequences": 5, "device": "cpu"}
    metric = "reap" if sites == ["experts"] else "influence" if "blocks" in sites else "wanda"
    return settings_of({**keys, "prune.sites": sites, "mask.metric": metric, **changes})


def saved(model: PreTrainedModel, directory: Path) -> Path:
    model.save_pretrained(directory)
    return directory


def both(directory: Path, masks: Masks, chosen: Settings) -> tuple[Any, Any]:
    """What is found with the whole model in memory, and layer by layer."""
    model = open_experts(load_model(directory, "float32"))
    source = stream_model(directory, "float32", CPU)
    return measure(model, masks, TEXT, chosen, "r1"), measure_streamed(source, masks, TEXT, chosen, "r1")


def half(units: int) -> torch.Tensor:
    return torch.arange(units) % 2 == 0


@pytest.mark.parametrize(
    ("kind", "sites", "masks"),
    [
        ("dense", ["mlp", "attention"], {}),
        ("dense", ["mlp", "attention"], {f"{n}/attention": half(2) for n in range(3)} | {"1/mlp": half(48)}),
        ("dense", ["blocks"], {"1/blocks": torch.tensor([False])}),
        ("dense", ["attention_blocks"], {"0/attention_blocks": torch.tensor([False])}),
        ("mixture", ["experts"], {}),
        ("mixture", ["experts"], {f"{layer}/experts": half(8) for layer in range(1, 4)}),
        ("mixture", ["mlp"], {"2/mlp.3": half(16), "0/mlp": half(48)}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("left_out", [0, 2])
def test_statistics_are_those_of_the_whole_model_to_the_last_bit(
    tmp_path: Path, kind: str, sites: list[str], masks: Mapping[str, torch.Tensor], left_out: int
) -> None:
    chosen = settings(sites, **{"mask.left_out": left_out})
    whole, read = both(saved(MODELS[kind](), tmp_path), masks, chosen)
    assert list(read) == list(whole) == ["news", "dialogues"]
    for domain, expected in whole.items():
        found = read[domain]
        assert replace(found, statistics={}) == replace(expected, statistics={})
        assert (found.lost is not None) == bool(left_out)
        assert set(found.statistics) == set(expected.statistics) != set()
        for site, statistics in expected.statistics.items():
            assert set(found.statistics[site]) == set(statistics)
            for name, values in statistics.items():
                assert torch.equal(found.statistics[site][name], values), (site, name)


class Watched(StreamedModel):
    """Keeps what it has read, to see what is left of it."""

    def layer(self, index: int) -> nn.Module:
        for earlier in SEEN:
            assert all(weight.is_meta for weight in earlier.parameters())
        assert all(weight.is_meta for weight in decoder_layers(self.model).parameters())
        SEEN.append(super().layer(index))
        return SEEN[-1]


SEEN: list[nn.Module] = []


@pytest.mark.parametrize("kind", MODELS)
def test_one_layer_has_weights_at_a_time(tmp_path: Path, kind: str) -> None:
    SEEN.clear()
    source = stream_model(saved(MODELS[kind](), tmp_path), "float32", CPU)
    watched = Watched(source.directory, source.dtype, source.device, source.model)
    measure_streamed(watched, {}, TEXT, settings(["mlp"]), "r1")
    assert len(SEEN) == len(decoder_layers(source.model))
    assert all(weight.is_meta for layer in SEEN for weight in layer.parameters())
    decoder = set(decoder_layers(source.model).parameters())
    ends = [weight for weight in source.model.parameters() if weight not in decoder]
    assert not any(weight.is_meta for weight in ends)


def test_a_batch_that_does_not_fit_begins_anew_in_a_smaller_one(tmp_path: Path) -> None:
    class Small(StreamedModel):
        def layer(self, index: int) -> nn.Module:
            layer = super().layer(index)

            def check(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
                sizes.append(len(inputs[0]))
                if index == 1 and len(inputs[0]) > 2:
                    raise RuntimeError("CUDA out of memory. Tried to allocate")

            layer.register_forward_pre_hook(check)
            return layer

    sizes: list[int] = []
    chosen = settings(["mlp"], **{"capture.batch_size": 4})
    masks = {"1/mlp": half(48)}
    source = stream_model(saved(make_tiny_model(), tmp_path), "float32", CPU)
    small = Small(source.directory, source.dtype, source.device, source.model)
    found = measure_streamed(small, masks, TEXT, chosen, "r1")
    assert sizes[0] == 4
    assert sizes[-1] <= 2
    fitting, _ = both(tmp_path, masks, settings(["mlp"], **{"capture.batch_size": 2}))
    for domain, expected in fitting.items():
        for site, statistics in expected.statistics.items():
            own = found[domain].statistics[site]
            assert all(torch.equal(own[name], values) for name, values in statistics.items())


def test_a_gone_block_is_not_read(tmp_path: Path) -> None:
    SEEN.clear()
    source = stream_model(saved(make_tiny_model(), tmp_path), "float32", CPU)
    watched = Watched(source.directory, source.dtype, source.device, source.model)
    measure_streamed(watched, {"1/blocks": torch.tensor([False])}, TEXT, settings(["blocks"]), "r1")
    assert len(SEEN) == 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_layer_has_the_weights_of_the_whole_model(tmp_path: Path, kind: str, dtype: str) -> None:
    source = stream_model(saved(MODELS[kind](), tmp_path), dtype, CPU)
    whole = open_experts(load_model(tmp_path, dtype))
    for index, expected in enumerate(decoder_layers(whole)):
        found = source.layer(index).state_dict()
        assert found.keys() == expected.state_dict().keys()
        assert all(torch.equal(found[name], weight) for name, weight in expected.state_dict().items())
    assert type(source.model) is type(whole)
    assert torch.equal(source.model.get_output_embeddings().weight, whole.get_output_embeddings().weight)


def test_layers_are_read_from_several_files(tmp_path: Path) -> None:
    make_mixture().save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    whole, read = both(tmp_path, {}, settings(["experts"]))
    found, expected = (one["news"].statistics["2/experts"]["given"] for one in (read, whole))
    assert torch.equal(found, expected)


def test_a_layer_without_all_of_its_weights_is_one_message(tmp_path: Path) -> None:
    model = make_tiny_model()
    weights = {name: one for name, one in model.state_dict().items() if "layers.1.mlp.up" not in name}
    model.save_pretrained(tmp_path, state_dict=weights)
    source = stream_model(tmp_path, "float32", CPU)
    source.layer(0)
    with pytest.raises(InputError, match=r"weights are missing: model.layers.1.mlp.up_proj.weight"):
        source.layer(1)


def test_a_class_of_its_own_is_refused(tmp_path: Path) -> None:
    save_uneven(tmp_path)
    with pytest.raises(SettingError, match=r"layers: streamed: .* has a class of its own"):
        stream_model(tmp_path, "float32", CPU)


def test_a_model_in_memory_is_refused() -> None:
    with pytest.raises(SettingError, match=r"capture.layers: streamed: reads layers from a checkpoint"):
        prune_model(make_tiny_model(), TEXT, settings(["mlp"]))


def test_gradients_are_refused() -> None:
    with pytest.raises(SettingError, match=r"capture.layers: streamed: capture.gradients: true makes a"):
        settings(["mlp"], **{"capture.gradients": True})


def test_layers_that_cannot_run_by_themselves_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = stream_model(saved(make_tiny_model(), tmp_path), "float32", CPU)
    monkeypatch.setattr(streamed, "family_of", lambda config: replace(family_of(config), apart=False))
    with pytest.raises(SettingError, match=r"layers: streamed: not for llama, whose layers hand each"):
        measure_streamed(source, {}, TEXT, settings(["mlp"]), "r1")
