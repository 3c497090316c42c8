"""The chunked loss against the loss that transformers computes itself."""

import pytest
import torch

from secateurs.inference import loss
from secateurs.inference.loss import sequence_losses
from tests.tiny import make_tiny_model


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that a batch is several chunks and the last one is short.
    monkeypatch.setattr(loss, "CHUNK_TOKENS", 7)


def test_losses_equal_transformers_own() -> None:
    model, ids = make_tiny_model(), torch.randint(0, 258, (3, 20))
    with torch.no_grad():
        expected = [model(ids[row : row + 1], labels=ids[row : row + 1]).loss for row in range(3)]
        assert torch.allclose(sequence_losses(model, ids), torch.stack(expected), atol=1e-5)


@pytest.mark.parametrize(("tokens", "positions"), [(20, [4, 12]), (4, [2]), (2, [0])])
def test_the_head_can_run_at_some_positions_only(tokens: int, positions: list[int]) -> None:
    model, ids = make_tiny_model(), torch.randint(0, 258, (3, tokens))
    seen: list[int] = []
    model.lm_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2]))
    with torch.no_grad():
        found = sequence_losses(model, ids, every=8)
        assert sum(seen) == 3 * len(positions)
        scores = model(ids).logits[:, :-1].transpose(1, 2)
        each = torch.nn.functional.cross_entropy(scores, ids[:, 1:], reduction="none")
    assert torch.allclose(found, each[:, positions].mean(dim=1), atol=1e-5)


def test_gradient_to_the_embeddings_equals_autograd_through_whole_logits() -> None:
    model, ids = make_tiny_model().requires_grad_(False), torch.randint(0, 258, (2, 20))
    gradients = []
    for whole in (True, False):
        seen: list[torch.Tensor] = []

        def start(
            _: object, __: object, output: torch.Tensor, seen: list[torch.Tensor] = seen
        ) -> torch.Tensor:
            seen.append(output.requires_grad_())
            return output

        handle = model.get_input_embeddings().register_forward_hook(start)
        if whole:
            logits = model(ids).logits[:, :-1]
            flat = torch.nn.functional.cross_entropy(logits.reshape(-1, 258), ids[:, 1:].reshape(-1))
            total = flat * 2  # the mean over both sequences, times their number
        else:
            total = sequence_losses(model, ids).sum()
        gradients.append(torch.autograd.grad(total, seen[0])[0])
        handle.remove()
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)
