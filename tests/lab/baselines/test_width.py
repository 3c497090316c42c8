"""Scores of the re-implementations against their formulas written out, and the cuts they lead to."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from lab.baselines.biases import compensate
from lab.baselines.selection import baseline_sites, layer_masks, unit_costs
from lab.baselines.table_rows import METHODS
from lab.baselines.walk import walk
from lab.baselines.width import standardised, unit_salience, wanda_scores
from secateurs.checkpoints.proof import prove_load
from secateurs.checkpoints.saving import save_model
from secateurs.errors import InputError
from secateurs.families.decoder import decoder_layers, decoder_parameters
from secateurs.families.hooks import hooked
from secateurs.kinds.channels import output_projection
from secateurs.kinds.sites import cut
from secateurs.kinds.statistics import ChannelSums
from tests.tiny import make_tiny_tokenizer

Make = Callable[..., LlamaForCausalLM]
LAYERS = 8
WIDTH = ("magnitude", "wanda-sp", "flap", "llm-pruner", "gisp")


@pytest.fixture
def model(tiny_model: Make) -> LlamaForCausalLM:
    """8 layers of 3 KV groups of 3 query heads; with a group less, heads still divide hidden_size."""
    made = tiny_model(num_hidden_layers=LAYERS, hidden_size=36, num_attention_heads=9, num_key_value_heads=3)
    return made.requires_grad_(False)


def text(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(2, 258, (6, 24), generator=generator) for name in ("code", "news")}


def prune(name: str, model: PreTrainedModel, sequences: dict[str, Tensor], share: float) -> None:
    METHODS[name][1](model, sequences, share)


def inputs_of(model: LlamaForCausalLM, sequences: dict[str, Tensor]) -> dict[str, Tensor]:
    """What each output projection of the model reads, float64 [tokens, channels]."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: seen.setdefault(name, []).append(inputs[0].flatten(0, 1))

    with (
        torch.no_grad(),
        hooked((output_projection(model, site), keep(site.name)) for site in baseline_sites(model)),
    ):
        for ids in sequences.values():
            model(ids, use_cache=False)
    return {name: torch.cat(parts).double() for name, parts in seen.items()}


def test_the_walk_sees_what_the_model_computes(model: LlamaForCausalLM) -> None:
    sites, expected, found = baseline_sites(model), inputs_of(model, text()), {}
    walk(model, sites, text(), lambda layer, own, sums: bool(found.update(sums)))
    for site in sites:
        assert torch.allclose(found[site.name].sums[0], expected[site.name].sum(dim=0), atol=1e-3)
        assert torch.allclose(found[site.name].sums[1], expected[site.name].square().sum(dim=0), rtol=1e-4)


def test_wandas_score_is_its_formula() -> None:
    weight, x = torch.randn(3, 4), torch.randn(1, 5, 4)
    sums = ChannelSums(4, gradients=False)
    sums.add_activations(x)
    expected = [
        sum(abs(float(weight[i, j])) * float(x[0, :, j].norm()) for i in range(3)) / 3 for j in range(4)
    ]
    assert wanda_scores(weight, sums).tolist() == pytest.approx(expected, rel=1e-5)


def test_wanda_sp_measures_a_layer_on_what_the_cut_layers_before_it_give(model: LlamaForCausalLM) -> None:
    pruned = copy.deepcopy(model)
    prune("wanda-sp", pruned, text(), 0.4)
    # The last layer's channels, scored on the model whose layers before it are cut.
    half = copy.deepcopy(pruned)
    last = LAYERS - 1
    decoder_layers(half)[last] = copy.deepcopy(decoder_layers(model)[last])
    (site,) = [site for site in baseline_sites(half) if site.layer == last and site.kind.name == "mlp"]
    x = inputs_of(half, text())[site.name]
    weight = output_projection(half, site).weight.double()
    scores = weight.abs().mean(dim=0) * x.norm(dim=0)
    kept = scores.topk(pruned.config.intermediate_size).indices.sort().values
    assert torch.equal(decoder_layers(pruned)[last].mlp.down_proj.weight.double(), weight[:, kept])


def test_scores_are_standardised_over_the_channels_of_a_layer() -> None:
    assert standardised(torch.tensor([1.0, 2.0, 3.0])).tolist() == pytest.approx([-1, 0, 1])


def test_salience_is_the_sum_of_weight_times_gradient(model: LlamaForCausalLM) -> None:
    ids = torch.cat(list(text().values()))
    found = unit_salience(model, [ids[:5], ids[5:]])
    reference = copy.deepcopy(model).requires_grad_(True)
    # All sequences are equally long, so the mean over tokens is the mean over sequences.
    reference(ids, labels=ids).loss.backward()
    layer = decoder_layers(reference)[2]
    product = {name: (weight * weight.grad).abs().detach() for name, weight in layer.named_parameters()}
    for channel in (0, 7):
        expected = sum(
            float(product[f"mlp.{name}.weight"][channel].sum()) for name in ("gate_proj", "up_proj")
        ) + float(product["mlp.down_proj.weight"][:, channel].sum())
        assert float(found["2/mlp"][channel]) == pytest.approx(expected, rel=1e-3)
    # Group 1 of 3: query heads 3 to 5, key and value head 1, each of 4 features.
    rows = {"q_proj": slice(12, 24), "k_proj": slice(4, 8), "v_proj": slice(4, 8)}
    expected = sum(float(product[f"self_attn.{name}.weight"][own].sum()) for name, own in rows.items())
    expected += float(product["self_attn.o_proj.weight"][:, 12:24].sum())
    assert float(found["2/attention"][1]) == pytest.approx(expected, rel=1e-3)


def test_measuring_salience_leaves_the_model_as_it_was(model: LlamaForCausalLM) -> None:
    before = copy.deepcopy(model.state_dict())
    unit_salience(model, list(text().values()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.parameters())


def test_a_bias_stands_for_the_mean_of_what_went(model: LlamaForCausalLM) -> None:
    sites, x = baseline_sites(model), inputs_of(model, text())
    masks = {site.name: torch.arange(site.units) % 3 > 0 for site in sites}
    projections = {site.name: output_projection(model, site) for site in sites}
    dense = {name: (x[name] @ module.weight.double().T).mean(dim=0) for name, module in projections.items()}
    compensate(model, {name: values.mean(dim=0) for name, values in x.items()}, masks)
    cut(model, masks)
    for site in sites:
        kept = masks[site.name].repeat_interleave(site.output.block)
        module = output_projection(model, site)
        given = (x[site.name][:, kept] @ module.weight.double().T).mean(dim=0) + module.bias.double()
        assert torch.allclose(given, dense[site.name], atol=1e-6)


def small_qwen() -> Qwen2ForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 8}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1))


def test_biases_are_put_into_a_family_without_flags_too() -> None:
    qwen = small_qwen()
    site = next(one for one in baseline_sites(qwen) if one.kind.name == "mlp")
    means = {site.name: torch.arange(24.0)}
    weight = output_projection(qwen, site).weight.double()
    compensate(qwen, means, {site.name: torch.arange(24) > 5})
    bias = output_projection(qwen, site).bias
    assert torch.allclose(bias.double(), weight[:, :6] @ means[site.name][:6].double(), atol=1e-6)


def loaded_class(model: PreTrainedModel, directory: Path) -> str:
    """The class that loads the saved model in a fresh process, which gives the same logits."""
    save_model(model, directory)
    make_tiny_tokenizer().save_pretrained(directory)
    return prove_load(model, directory, torch.arange(2, 18)[None], directory).loaded


@pytest.mark.usefixtures("quick_programs")
@pytest.mark.parametrize(("name", "stock"), [("wanda-sp", True), ("flap", False), ("gisp", False)])
def test_what_a_method_leaves_loads_in_the_stock_class_or_its_own(
    model: LlamaForCausalLM, tmp_path: Path, name: str, stock: bool
) -> None:
    prune(name, model, text(), 0.4)
    assert hasattr(transformers, loaded_class(model, tmp_path)) == stock
    assert (tmp_path / "modeling_pruned.py").exists() != stock


@pytest.mark.usefixtures("quick_programs")
def test_equal_widths_with_flaps_biases_load_in_the_stock_class(
    model: LlamaForCausalLM, tmp_path: Path
) -> None:
    sites = [site for site in baseline_sites(model) if site.kind.name == "mlp"]
    masks = {site.name: torch.arange(site.units) >= 8 for site in sites}
    compensate(model, {site.name: torch.ones(site.features) for site in sites}, masks)
    cut(model, masks)
    assert hasattr(transformers, loaded_class(model, tmp_path))


@pytest.mark.parametrize("share", [0.2, 0.4])
@pytest.mark.parametrize("name", WIDTH)
def test_every_method_meets_the_budget(model: LlamaForCausalLM, name: str, share: float) -> None:
    dense = decoder_parameters(model)
    prune(name, model, text(), share)
    biases = sum(value.numel() for key, value in model.named_parameters() if key.endswith("bias"))
    removed = 1 - (decoder_parameters(model) - biases) / dense
    # A KV group of one layer is 1.7% of this model, and a channel of every layer 1.2%.
    assert removed == pytest.approx(share, abs=0.017)
    assert bool(torch.isfinite(model(text()["code"]).logits).all())


@pytest.mark.parametrize("name", ["magnitude", "wanda-sp"])
def test_a_uniform_method_leaves_every_layer_alike(model: LlamaForCausalLM, name: str) -> None:
    prune(name, model, text(), 0.4)
    widths = {
        (layer.mlp.down_proj.in_features, layer.self_attn.o_proj.in_features)
        for layer in decoder_layers(model)
    }
    assert len(widths) == 1
    assert not model.config.is_heterogeneous


def test_llm_pruner_spares_the_first_and_last_layers(model: LlamaForCausalLM) -> None:
    prune("llm-pruner", model, text(), 0.2)
    widths = [layer.mlp.down_proj.in_features for layer in decoder_layers(model)]
    assert widths[:2] + widths[-2:] == [48] * 4
    assert len(set(widths[2:-2])) == 1
    assert widths[2] < 48


def test_gisp_ranks_all_layers_together(model: LlamaForCausalLM) -> None:
    prune("gisp", model, text(), 0.4)
    assert len({layer.mlp.down_proj.in_features for layer in decoder_layers(model)}) > 1


def test_a_share_that_channels_cannot_make_up_is_refused(model: LlamaForCausalLM) -> None:
    own = [site for site in baseline_sites(model) if site.layer == 0]
    scores = {site.name: torch.zeros(site.units) for site in own}
    with pytest.raises(InputError, match=r"layer 0: 7,000 parameters to remove: .* of 48 channels"):
        layer_masks(own, scores, unit_costs(model, own), 7000, 0.1)
