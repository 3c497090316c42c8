"""Whether text was drawn from a model's own distribution, by what that model thinks of it."""

import numpy as np
import pytest
import torch

from secateurs.errors import InputError
from secateurs.text.agreement import Agreement, Drawn, agreement, check_agreement
from secateurs.text.sampling import Draw, Lots, go_on
from tests.tiny import make_tiny_model

PROMPTS = [[5, 9, 40], [8], [30, 31, 32, 33]] * 20
DRAWS = [Draw(1.0), Draw(0.7, 0.05), Draw(0.8, 0.02, (3, 1.6))]


def drawn(draw: Draw, **changes: int) -> list[Drawn]:
    """Texts that a model wrote by our own loop, ended by every fifth token."""
    model = make_tiny_model(**changes).requires_grad_(False)
    ends = frozenset(range(0, 258, 40))
    written = go_on(model, PROMPTS, 24, draw, Lots("k", 60), ends=ends)
    return [Drawn(tuple(one), tuple(ids), draw) for one, ids in zip(PROMPTS, written, strict=True)]


@pytest.mark.parametrize("draw", DRAWS)
def test_what_the_model_drew_itself_is_as_likely_as_it_should_be(draw: Draw) -> None:
    found = agreement(make_tiny_model(), drawn(draw))
    assert abs(found.found - found.expected) < 3 * found.error
    check_agreement(found, "vLLM 1")


@pytest.mark.parametrize("draw", DRAWS)
def test_what_another_model_drew_is_refused(draw: Draw) -> None:
    found = agreement(make_tiny_model(), drawn(draw, seed=1))
    with pytest.raises(
        InputError, match=r"sample.engine: vllm: vLLM 1 writes as another model than the dense"
    ):
        check_agreement(found, "vLLM 1")


def test_another_temperature_than_asked_for_is_refused() -> None:
    hot = [Drawn(one.prompt, one.ids, Draw(0.7)) for one in drawn(Draw(1.3))]
    with pytest.raises(InputError, match="writes as another model"):
        check_agreement(agreement(make_tiny_model(), hot), "vLLM 1")


def test_the_figures_are_those_of_the_formula() -> None:
    model, draw = make_tiny_model(), Draw(0.8, 0.3, (1, 2.0))
    text = Drawn((5, 9), (40, 7, 100), draw)
    with torch.no_grad():
        logits = model(torch.tensor([[5, 9, 40, 7, 100]])).logits[0, 1:4].double().numpy()
    found = expected = variance = 0.0
    for row, token, temperature in zip(logits, text.ids, (2.0, 0.8, 0.8), strict=True):
        logs = row - np.log(np.exp(row).sum())
        odds = np.exp(row / temperature)
        odds[odds < 0.3 * odds.max()] = 0.0
        odds /= odds.sum()
        found, mean = found + logs[token], (odds * logs).sum()
        expected += mean
        variance += (odds * (logs - mean) ** 2).sum()
    got = agreement(model, [text])
    wanted = (found / 3, expected / 3, variance**0.5 / 3)
    assert (got.found, got.expected, got.error) == pytest.approx(wanted, rel=1e-4)
    assert got.tokens == 3


def test_a_difference_below_what_rounding_makes_is_none() -> None:
    check_agreement(Agreement(found=-2.04, expected=-2.0, error=0.001, tokens=10**6), "vLLM 1")
