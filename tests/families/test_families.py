"""Families on tiny random models: what a cut, healing, a checkpoint and generation must keep true."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from secateurs.checkpoints.loading import load_model
from secateurs.checkpoints.saving import save_model
from secateurs.errors import InputError
from secateurs.families.decoder import decoder_layers, decoder_parameters
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.heal.layers import HealingText
from secateurs.kinds.channels import ChannelSite, output_projection
from secateurs.kinds.depth import depth_site
from secateurs.kinds.experts import ExpertsSite
from secateurs.kinds.sites import all_kept_masks, kept_units, sites_of
from secateurs.measure.capture import capture
from secateurs.settings.pruning import Capture, Reconstruct, Surgery
from secateurs.text.rows import Text
from tests.healing import error, healed

COMMON: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # The stock 0.02 leaves so small a model nearly linear; wider weights make its channels differ.
    "initializer_range": 0.2,
}
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6}
OWN: dict[str, dict[str, Any]] = {
    "gemma2": {**SLIDING, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0},
    "gemma3_text": {**SLIDING, "query_pre_attn_scalar": 8},
    "gpt_neox": {"head_dim": ..., "num_key_value_heads": ..., "tie_word_embeddings": False},
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 6},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo2": {"head_dim": ..., "tie_word_embeddings": False},
    "phi3": {"sliding_window": 6},
    "qwen2": {"head_dim": ..., "num_attention_heads": 4, "num_key_value_heads": 2},
    "qwen3": {"attention_bias": True},
    "qwen3_moe": {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2},
    "smollm3": {
        "no_rope_layers": [1, 0],
        "head_dim": ...,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
TIED = {"gemma2", "gemma3_text", "llama", "qwen2", "qwen3", "smollm3"}
FAMILIES = sorted(OWN)
IDS = torch.randint(3, 96, (6, 20), generator=torch.Generator().manual_seed(2))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def tiny_config(family: str, **changes: Any) -> PretrainedConfig:
    fields = {**COMMON, "tie_word_embeddings": family in TIED, **OWN[family], **changes}
    return AutoConfig.for_model(family, **{key: value for key, value in fields.items() if value is not ...})


def tiny(family: str, **changes: Any) -> PreTrainedModel:
    """A random model in float32, its biases and norms random too, so that each must be handled."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(family, **changes)).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            weight += 0.3 * torch.randn_like(weight)
    return model


def opened(model: PreTrainedModel) -> PreTrainedModel:
    return open_experts(copy.deepcopy(model))


def half_masks(model: PreTrainedModel, kinds: tuple[str, ...]) -> dict[str, Tensor]:
    """Half of the units of each kind, in every group of units equally many, other ones at every site."""
    generator = torch.Generator().manual_seed(5)
    masks = all_kept_masks(model)
    for site in sites_of(model, kinds):
        if site.kind.pooled:
            masks[site.name] = torch.tensor([site.layer % 2 == 1])
            continue
        for units in masks[site.name].view(site.groups, -1):
            units[torch.randperm(len(units), generator=generator)[: len(units) // 2]] = False
    return masks


def uneven_masks(model: PreTrainedModel) -> dict[str, Tensor]:
    """Half of the channels of every mlp gone, but for the first layer, which stays whole."""
    masks = half_masks(model, ("mlp",))
    return {name: mask | name.startswith("0/") for name, mask in masks.items()}


def pruned(
    model: PreTrainedModel,
    masks: dict[str, Tensor],
    method: Any = "none",
    reconstruction: Reconstruct | None = None,
) -> PreTrainedModel:
    surgery = Surgery(heal=method, alpha=0.5, ridge=0.01, reconstruct=reconstruction or Reconstruct())
    return healed(model, masks, surgery, HealingText({"d": IDS}, {"d": 1.0}))[0]


def left_by(model: PreTrainedModel, method: str) -> float:
    """What a method leaves of the error of the last hidden state, half of the channels of each mlp gone."""
    masks = half_masks(opened(model), ("mlp",))
    with_it, without = (error(pruned(model, masks, one), model, IDS) for one in (method, "none"))
    return with_it / without


def captured(model: PreTrainedModel, checkpointing: bool = False) -> dict[str, Tensor]:
    """Fisher [channels] of every site by name; the model's experts are opened."""
    sites = sites_of(model)
    with torch.enable_grad():
        settings = Capture(checkpointing=checkpointing, batch_size=4)
        found = capture(model, sites, Text({"d": IDS}), settings)["d"]
    scores = {site.name: found.statistics[site.name]["fisher"] for site in sites}
    assert all(scores[site.name].shape == (site.features,) for site in sites)
    return scores


def logits(model: PreTrainedModel, ids: Tensor = IDS) -> Tensor:
    values: Tensor = model(ids).logits
    return values


def masked_logits(model: PreTrainedModel, masks: dict[str, Tensor]) -> Tensor:
    """The dense model's logits with the masked units at zero, of experts their router's logits at -inf."""
    dense, routers = opened(model), ExitStack()
    for site in sites_of(dense):
        kept, layer = kept_units(masks, site), decoder_layers(dense)[site.layer]
        if isinstance(site, ChannelSite):
            given = site.of_features(kept)
            projection = output_projection(dense, site)
            projection.register_forward_pre_hook(lambda _, args, given=given: (args[0] * given,))
        elif isinstance(site, ExpertsSite):
            routers.enter_context(site.kind.masked(dense, site, kept))
        elif not bool(kept):
            module = layer.get_submodule(depth_site(site).modules[-1])
            module.register_forward_hook(_stream_as_it_came if module is layer else _nothing)
    with routers:
        return logits(dense)


def _stream_as_it_came(_: Any, inputs: tuple[Tensor, ...], output: Any) -> Any:
    return (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]


def _nothing(_: Any, inputs: Any, output: Any) -> Any:
    return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else 0 * output


def reloaded(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    save_model(model, directory)
    return AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True).eval()


def choices(model: PreTrainedModel) -> list[tuple[str, ...]]:
    """Kinds that can go together, each kind in one of them, mlp beside all that do not hold it."""
    kinds = {site.kind.name for site in sites_of(opened(model))}
    beside = [kind for kind in ("attention", "query_heads", "attention_blocks") if kind in kinds]
    experts = [("attention", "experts")] if "experts" in kinds else []
    return [("mlp",), ("blocks",), *experts, *((kind, "mlp") for kind in beside)]


@pytest.mark.parametrize("family", FAMILIES)
class TestFamily:
    def test_experts_are_opened_and_closed_without_a_trace(self, family: str) -> None:
        model = tiny(family)
        other = opened(model)
        assert torch.allclose(logits(other), logits(model), atol=1e-5)
        again = close_experts(other).state_dict()
        assert all(torch.equal(again[name], weight) for name, weight in model.state_dict().items())

    def test_cut_equals_masked(self, family: str) -> None:
        model = tiny(family)
        for kinds in choices(model):
            masks = half_masks(opened(model), kinds)
            smaller = pruned(model, masks)
            assert torch.allclose(logits(smaller), masked_logits(model, masks), atol=1e-4), kinds
            assert not torch.allclose(logits(smaller), logits(model), atol=1e-2), kinds

    def test_a_cut_removes_the_parameters_it_was_counted_for(self, family: str) -> None:
        model = opened(tiny(family))
        for kinds in choices(model):
            masks = half_masks(model, kinds)
            # A unit's cost is counted in the dense model, where nothing else has been cut.
            counted = sum(
                site.kind.cost(model, site) * int((~kept_units(masks, site)).sum())
                for site in sites_of(model)
            )
            removed = decoder_parameters(model) - decoder_parameters(pruned(model, masks))
            assert removed == counted > 0, kinds

    def test_healing_where_nothing_is_removed_leaves_every_bit(self, family: str) -> None:
        model = tiny(family)
        same = pruned(model, all_kept_masks(opened(model)), "residual").state_dict()
        assert all(torch.equal(same[name], weight) for name, weight in model.state_dict().items())

    @pytest.mark.parametrize("method", ["least_squares", "residual"])
    def test_healing_brings_the_model_nearer_to_the_dense_one(self, family: str, method: str) -> None:
        assert left_by(tiny(family), method) < 0.9

    def test_save_and_load_gives_the_same_logits(self, family: str, tmp_path: Path) -> None:
        model = tiny(family)
        for number, kinds in enumerate(choices(model)):
            smaller = pruned(model, half_masks(opened(model), kinds), "residual")
            loaded = reloaded(smaller, tmp_path / str(number))
            assert torch.allclose(logits(loaded), logits(smaller), atol=1e-5), kinds
            assert loaded.num_parameters() == smaller.num_parameters() < model.num_parameters()

    def test_layers_of_different_widths_save_and_load(self, family: str, tmp_path: Path) -> None:
        model = tiny(family)
        smaller = pruned(model, uneven_masks(opened(model)), "residual")
        loaded = reloaded(smaller, tmp_path / "once")
        assert torch.allclose(logits(loaded), logits(smaller), atol=1e-5)
        loaded.save_pretrained(tmp_path / "twice")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "twice", trust_remote_code=True)
        assert torch.equal(logits(again), logits(loaded))
        options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
        cached = loaded.generate(IDS[:2, :9], use_cache=True, **options)
        assert torch.equal(cached, smaller.generate(IDS[:2, :9], use_cache=False, **options))
        loaded.set_attn_implementation("eager")
        assert torch.allclose(logits(loaded), logits(smaller), atol=1e-4)

    def test_the_cache_and_left_padded_batches_generate_the_same(self, family: str) -> None:
        model = tiny(family)
        smaller = pruned(model, half_masks(opened(model), choices(model)[-1]), "residual")
        options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
        prompt = IDS[:2, :9]
        cached = smaller.generate(prompt, use_cache=True, **options)
        assert torch.equal(cached, smaller.generate(prompt, use_cache=False, **options))
        padded = torch.cat([torch.zeros_like(prompt[:, :3]), prompt], dim=1)
        attended = (torch.arange(12) >= 3).long().expand(2, -1)
        batch = smaller.generate(padded, attention_mask=attended, **options)
        assert torch.equal(batch[:, 12:], cached[:, 9:])

    def test_tied_embeddings_stay_tied(self, family: str, tmp_path: Path) -> None:
        model = tiny(family)
        smaller = pruned(model, half_masks(opened(model), ("mlp",)), "residual")
        for one in (smaller, reloaded(smaller, tmp_path)):
            tied = one.get_output_embeddings().weight is one.get_input_embeddings().weight
            assert tied == (family in TIED)

    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_capture_sees_every_channel(self, family: str, checkpointing: bool) -> None:
        model = opened(tiny(family))
        for name, fisher in captured(model, checkpointing).items():
            assert bool((fisher > 0).all()), name

    def test_bfloat16_is_captured_cut_healed_trained_and_loaded(self, family: str, tmp_path: Path) -> None:
        # Grouped products of experts want rows of 16 bytes, also of half the channels.
        width = {"moe_intermediate_size" if family == "qwen3_moe" else "intermediate_size": 32}
        exact = tiny(family, **width)
        exact.save_pretrained(tmp_path / "exact")
        model = load_model(tmp_path / "exact", "bfloat16")
        expected = captured(opened(exact))
        for name, fisher in captured(opened(model)).items():
            if len(fisher) == 1:
                assert float(fisher) == pytest.approx(float(expected[name]), rel=0.5), name
            else:
                assert float(torch.corrcoef(torch.stack([fisher, expected[name]]))[0, 1]) > 0.9, name
        masks = half_masks(opened(model), ("mlp",))
        for number, reconstruction in enumerate(
            [None, Reconstruct(epochs=1, learning_rate=1e-3, batch_size=4)]
        ):
            smaller = pruned(model, masks, "residual", reconstruction)
            assert {weight.dtype for weight in smaller.parameters()} == {torch.bfloat16}
            assert torch.equal(logits(reloaded(smaller, tmp_path / str(number))), logits(smaller))


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text"])
def test_head_counts_that_the_stock_config_refuses_load_through_the_modelling_file(
    family: str, tmp_path: Path
) -> None:
    model = tiny(family)
    masks = all_kept_masks(model)
    for site in sites_of(model, ("attention",)):
        masks[site.name][site.layer] = False
    smaller = pruned(model, masks, "residual")
    loaded = reloaded(smaller, tmp_path)
    assert [layer.num_attention_heads for layer in loaded.config.per_layer_config] == [6, 6]
    assert torch.allclose(logits(loaded), logits(smaller), atol=1e-5)


def test_a_width_that_no_config_can_say_is_refused_by_name() -> None:
    config = AutoConfig.for_model(
        "gpt_neox_japanese", hidden_size=16, num_attention_heads=2, num_hidden_layers=1, vocab_size=16,
        intermediate_multiple_size=10,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(InputError, match=r"prune.sites: mlp: not for gpt_neox_japanese: no entry of its con"):
        sites_of(model, ("mlp",))


@pytest.mark.parametrize("family", ["olmo2", "gpt_neox"])
def test_attention_that_cannot_be_cut_is_refused_with_the_reason(family: str) -> None:
    with pytest.raises(InputError, match=rf"prune.sites: attention: not for {family}: "):
        sites_of(tiny(family), ("attention",))


def test_dense_layers_among_mixtures_have_a_width_of_their_own(tmp_path: Path) -> None:
    model = tiny("qwen3_moe", mlp_only_layers=[0], intermediate_size=40)
    smaller = pruned(model, half_masks(opened(model), ("mlp",)), "residual")
    assert (smaller.config.intermediate_size, smaller.config.moe_intermediate_size) == (20, 12)
    assert torch.allclose(logits(reloaded(smaller, tmp_path)), logits(smaller), atol=1e-5)
