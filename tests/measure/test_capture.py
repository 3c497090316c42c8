"""Captured statistics against plain loops over autograd."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from secateurs.errors import InputError
from secateurs.kinds.channels import output_projection
from secateurs.kinds.sites import cut, sites_of
from secateurs.measure.capture import DomainCapture, capture
from secateurs.settings.pruning import Capture
from secateurs.text.rows import Text
from tests.tiny import make_tiny_model

CHANNELS = ("attention", "query_heads", "mlp")
IDS = torch.randint(0, 258, (5, 16), generator=torch.Generator().manual_seed(1))


def run(
    model: LlamaForCausalLM,
    ids: torch.Tensor,
    batch_size: int,
    gradients: bool = True,
    checkpointing: bool = False,
    answers: torch.Tensor | None = None,
) -> DomainCapture:
    model.requires_grad_(False)
    text = Text({"text": ids}, {} if answers is None else {"text": answers})
    settings_ = Capture(gradients=gradients, checkpointing=checkpointing, batch_size=batch_size)
    captures = capture(model, sites_of(model, CHANNELS), text, settings_)
    return captures["text"]


def keep_in(inputs: dict[str, torch.Tensor], name: str) -> Callable[..., None]:
    def keep(_: object, args: tuple[torch.Tensor, ...]) -> None:
        args[0].retain_grad()
        inputs[name] = args[0]

    return keep


def activations_and_gradients(
    model: LlamaForCausalLM, ids: torch.Tensor
) -> dict[str, list[tuple[torch.Tensor, torch.Tensor]]]:
    """x and dL/dx [tokens, channels] of every site, one sequence at a time, weights trainable."""
    found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for row in ids:
        inputs: dict[str, torch.Tensor] = {}
        handles = []
        for site in sites_of(model, CHANNELS):
            handles.append(
                output_projection(model, site).register_forward_pre_hook(keep_in(inputs, site.name))
            )
        model(row[None], labels=row[None]).loss.backward()
        for handle in handles:
            handle.remove()
        for name, x in inputs.items():
            assert x.grad is not None
            found.setdefault(name, []).append((x.detach()[0], x.grad[0]))
    return found


def test_fisher_is_the_squared_gradient_of_a_channel_mask() -> None:
    reference = activations_and_gradients(make_tiny_model(), IDS)
    statistics = run(make_tiny_model(), IDS, batch_size=2).statistics
    for name, pairs in reference.items():
        expected = torch.stack([(x * g).sum(dim=0).square() for x, g in pairs]).mean(dim=0)
        assert torch.allclose(statistics[name]["fisher"], expected, rtol=1e-3, atol=1e-10)


def test_fisher_of_attention_is_the_derivative_by_a_mask_on_its_output() -> None:
    model = make_tiny_model()
    site = next(site for site in sites_of(model) if site.name == "1/attention")
    mask = torch.ones(site.features, requires_grad=True)
    projection = output_projection(model, site)
    handle = projection.register_forward_pre_hook(lambda _, args: (args[0] * mask,))
    squares = [torch.autograd.grad(model(row[None], labels=row[None]).loss, mask)[0].square() for row in IDS]
    handle.remove()
    statistics = run(make_tiny_model(), IDS, batch_size=5).statistics
    assert torch.allclose(
        statistics["1/attention"]["fisher"], torch.stack(squares).mean(0), rtol=1e-3, atol=1e-10
    )


def test_taylor_is_the_mean_square_of_activation_times_gradient() -> None:
    reference = activations_and_gradients(make_tiny_model(), IDS)
    statistics = run(make_tiny_model(), IDS, batch_size=3).statistics
    for name, pairs in reference.items():
        expected = torch.cat([(x * g).square() for x, g in pairs]).mean(dim=0)
        assert torch.allclose(statistics[name]["taylor"], expected, rtol=1e-3, atol=1e-12)


def test_of_dialogues_the_loss_of_answers_alone_is_taken() -> None:
    answers = torch.rand(IDS.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    model, inputs = make_tiny_model(), dict[str, torch.Tensor]()
    for site in sites_of(model, CHANNELS):
        output_projection(model, site).register_forward_pre_hook(keep_in(inputs, site.name))
    logits = model(IDS).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), IDS[:, 1:], reduction="none")
    counted = losses[answers[:, 1:]]
    (counted.sum() / (IDS.shape[1] - 1)).backward()
    for size in (2, 5):
        found = run(make_tiny_model(), IDS, batch_size=size, answers=answers)
        assert found.answers
        assert found.loss == pytest.approx(float(counted.detach().mean()), rel=1e-5)
        for name, x in inputs.items():
            expected = (x.detach() * x.grad).square().mean(dim=(0, 1))
            assert torch.allclose(found.statistics[name]["taylor"], expected, rtol=1e-3, atol=1e-12)


def test_the_loss_of_answers_is_the_same_without_gradients() -> None:
    answers = torch.rand(IDS.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    losses = [run(make_tiny_model(), IDS, 5, gradients, answers=answers).loss for gradients in (True, False)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_moments_equal_those_of_all_tokens_at_once() -> None:
    reference = activations_and_gradients(make_tiny_model(), IDS)
    statistics = run(make_tiny_model(), IDS, batch_size=3, gradients=False).statistics
    for name, pairs in reference.items():
        x = torch.cat([x for x, _ in pairs])
        assert torch.allclose(statistics[name]["square"], x.square().mean(dim=0), rtol=1e-4)
        assert torch.allclose(statistics[name]["variance"], x.var(dim=0, correction=0), rtol=1e-3, atol=1e-8)


@given(batch_size=st.integers(1, 5))
@settings(max_examples=5, deadline=None)
def test_batch_size_does_not_show(batch_size: int) -> None:
    whole, split = (run(make_tiny_model(), IDS, size) for size in (5, batch_size))
    assert split.loss == pytest.approx(whole.loss, rel=1e-6)
    for name, statistics in whole.statistics.items():
        for statistic, values in statistics.items():
            assert torch.allclose(split.statistics[name][statistic], values, rtol=1e-3, atol=1e-10)


def test_checkpointing_runs_layers_twice_and_counts_them_once() -> None:
    layers_run = []
    model = make_tiny_model()
    model.model.layers[1].mlp.register_forward_pre_hook(lambda *_: layers_run.append(1))
    kept = run(make_tiny_model(), IDS, batch_size=2)
    again = run(model, IDS, batch_size=2, checkpointing=True)
    assert len(layers_run) == 2 * 3
    assert not any(module.training for module in model.modules())
    assert again.loss == pytest.approx(kept.loss, rel=1e-6)
    for name, statistics in kept.statistics.items():
        for statistic, values in statistics.items():
            assert torch.allclose(again.statistics[name][statistic], values, rtol=1e-5, atol=1e-12)


def test_forward_only_builds_no_graph_and_takes_no_gradient_statistics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a backward pass was made")

    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    statistics = run(make_tiny_model(), IDS, batch_size=5, gradients=False).statistics
    assert all(set(one) == {"square", "variance"} for one in statistics.values())


def test_the_loss_comes_out_of_the_same_pass() -> None:
    model = make_tiny_model()
    with torch.no_grad():
        expected = torch.stack([model(row[None], labels=row[None]).loss for row in IDS]).mean()
    assert run(make_tiny_model(), IDS, batch_size=2).loss == pytest.approx(float(expected), rel=1e-5)


def test_without_a_backward_pass_the_loss_is_that_of_one_position_in_eight() -> None:
    model = make_tiny_model()
    with torch.no_grad():
        tokens = torch.nn.functional.cross_entropy(
            model(IDS).logits[:, :-1].transpose(1, 2), IDS[:, 1:], reduction="none"
        )
    found = run(make_tiny_model(), IDS, batch_size=2, gradients=False).loss
    assert found == pytest.approx(float(tokens[:, [4, 12]].mean()), rel=1e-5)


def test_expanded_statistics_are_zero_where_channels_are_gone() -> None:
    model = make_tiny_model()
    masks = {f"{layer}/mlp": torch.arange(48) % 3 > 0 for layer in range(3)}
    cut(model, masks)
    heads = [site for site in sites_of(model, CHANNELS) if site.kind.name != "mlp"]
    masks |= {site.name: torch.ones(site.features, dtype=torch.bool) for site in heads}
    fisher = run(model, IDS, batch_size=5).over_dense(masks).statistics["0/mlp"]["fisher"]
    assert fisher is not None
    assert torch.equal(fisher > 0, masks["0/mlp"])


def test_a_model_that_overflows_is_refused_by_name() -> None:
    model = make_tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.fill_(1e30)
    with pytest.raises(InputError, match="domain text"):
        run(model, IDS, batch_size=5)


def test_sequences_without_a_part_of_an_answer_are_refused() -> None:
    none = torch.zeros(IDS.shape, dtype=torch.bool)
    with pytest.raises(InputError, match=r"sequences: none of the 5 sequences of domain text holds"):
        run(make_tiny_model(), IDS, 5, answers=none)
