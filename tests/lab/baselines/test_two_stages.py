"""2SSP on the tiny model, against its formulas computed by hand."""

import copy

import pytest
import torch

from lab.baselines.two_stages import attentions_to_remove, mean_norms, two_stages
from lab.baselines.walk import BATCH
from secateurs.families.decoder import decoder_parameters
from secateurs.inference.loss import sequence_losses
from secateurs.kinds.attention_blocks import NoAttention
from tests.tiny import make_tiny_model


def text(count: int = 10) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"a": torch.randint(2, 258, (count, 16), generator=generator)}


def test_norms_are_means_over_sequences_of_the_norm_over_tokens() -> None:
    model, sequences = make_tiny_model(), text()
    seen: list[torch.Tensor] = []
    hook = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(
        lambda _, x: seen.append(x[0].detach())
    )
    with torch.no_grad():
        for row in sequences["a"]:
            model(row[None])
    hook.remove()
    expected = torch.stack([one[0].double().square().sum(dim=0).sqrt() for one in seen]).mean(dim=0)
    torch.testing.assert_close(mean_norms(model, sequences)["1/mlp"], expected, rtol=1e-5, atol=1e-6)


def test_the_balance_is_the_papers() -> None:
    # A layer of the tiny model: mlp 3 * 32 * 48, attention 2 * 32 * 32 + 2 * 32 * 16 parameters, 3 layers.
    for share in (0.2, 0.4, 0.8):
        assert attentions_to_remove(make_tiny_model(), share) == round(3 * share ** (4608 / 3072 / 1.5))


def test_the_share_is_removed_and_the_least_attention_is_gone() -> None:
    dense, sequences = make_tiny_model(), text()
    model = copy.deepcopy(dense)
    two_stages(model, sequences, 0.4)
    removed = 1 - decoder_parameters(model) / decoder_parameters(dense)
    assert removed == pytest.approx(0.4, abs=0.02)
    gone = [
        index for index, layer in enumerate(model.model.layers) if isinstance(layer.self_attn, NoAttention)
    ]
    assert len(gone) == attentions_to_remove(dense, 0.4) == 1
    # Of the model cut to the same widths, every attention taken out in turn.
    cut = copy.deepcopy(model)
    losses = []
    for index in range(3):
        other = copy.deepcopy(cut)
        for layer, own in enumerate(dense.model.layers):
            attention = NoAttention(layer) if layer == index else copy.deepcopy(own.self_attn)
            other.model.layers[layer].self_attn = attention
            if layer != index:
                other.model.layers[layer].input_layernorm = copy.deepcopy(own.input_layernorm)
        with torch.no_grad():
            losses.append(float(sequence_losses(other, sequences["a"][:BATCH]).mean()))
    assert gone == [losses.index(min(losses))]


def test_a_model_without_an_attention_still_writes_with_its_cache() -> None:
    model = make_tiny_model()
    for index in (0, 2):
        model.model.layers[index].self_attn = NoAttention(index)
    ids = torch.arange(5, 12)[None]
    written = model.generate(
        ids, max_new_tokens=6, do_sample=False, pad_token_id=1, attention_mask=torch.ones_like(ids)
    )
    for length in range(7, written.shape[1]):
        whole = model(written[:, :length], use_cache=False).logits[0, -1]
        assert int(whole.argmax()) == int(written[0, length])
