"""The refit against numpy's least squares."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateurs.errors import InputError
from secateurs.heal.ridge import Moments, both_refits, missed, missed_by_refit, ridge_refit
from secateurs.heal.symmetric import NARROWEST

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(6, 30, 8, generator=GENERATOR)
TARGET = torch.randn(6, 30, 5, generator=GENERATOR)
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0])
ANCHOR = torch.randn(5, 8, generator=GENERATOR)


def moments() -> Moments:
    found = Moments(8, 5, torch.device("cpu"))
    for x, target, weights in zip(X, TARGET, WEIGHTS, strict=True):
        found.add(x[None], target[None], float(weights))
    return found


def least_squares(ridge: float) -> np.ndarray:
    """The same problem as one stacked system for numpy.linalg.lstsq."""
    root = WEIGHTS.sqrt().repeat_interleave(30)[:, None].double().numpy()
    x, target = (values.flatten(0, 1).double().numpy() * root for values in (X, TARGET))
    pull = np.diag(np.sqrt(ridge * np.sum(x * x, axis=0)))
    stacked = np.vstack([x, pull])
    wanted = np.vstack([target, pull @ ANCHOR.double().numpy().T])
    return np.linalg.lstsq(stacked, wanted, rcond=None)[0].T


@pytest.mark.parametrize("ridge", [1e-9, 0.01, 1.0, 100.0])
def test_refit_equals_numpys_least_squares(ridge: float) -> None:
    assert np.allclose(ridge_refit(moments(), ANCHOR, ridge).numpy(), least_squares(ridge), atol=1e-4)


def test_the_uncut_projections_own_output_is_fitted_by_what_its_removed_channels_gave() -> None:
    generator = torch.Generator().manual_seed(2)
    gone, columns = torch.randn(6, 30, 3, generator=generator), torch.randn(5, 3, generator=generator)
    found, expected = Moments(8, 5, torch.device("cpu"), removed=3), Moments(8, 5, torch.device("cpu"))
    for x, target, removed, weight in zip(X, TARGET, gone, WEIGHTS, strict=True):
        found.add(x[None], target[None], float(weight), removed=removed[None])
        expected.add(x[None], (x @ ANCHOR.T + removed @ columns.T)[None], float(weight))
    refit, own_output = both_refits(found, ANCHOR, columns, 0.1)
    assert torch.equal(refit, ridge_refit(moments(), ANCHOR, 0.1))
    assert torch.allclose(own_output, ridge_refit(expected, ANCHOR, 0.1), atol=1e-5)
    assert not torch.allclose(own_output, ANCHOR, atol=1e-2)


def test_a_token_counts_as_much_as_its_own_weight_says() -> None:
    each = torch.rand(6, 30, generator=torch.Generator().manual_seed(1))
    found, expected = Moments(8, 5, torch.device("cpu")), Moments(8, 5, torch.device("cpu"))
    for x, target, weights, tokens in zip(X, TARGET, WEIGHTS, each, strict=True):
        found.add(x[None], target[None], float(weights), tokens[None])
        for number, weight in enumerate(tokens):
            expected.add(x[None, [number]], target[None, [number]], float(weights * weight))
    assert torch.allclose(ridge_refit(found, ANCHOR, 0.1), ridge_refit(expected, ANCHOR, 0.1), atol=1e-5)


@given(cut=st.integers(1, 29))
@settings(deadline=None)
def test_where_batches_are_cut_does_not_show(cut: int) -> None:
    split = Moments(8, 5, torch.device("cpu"))
    for x, target, weights in zip(X, TARGET, WEIGHTS, strict=True):
        split.add(x[None, :cut], target[None, :cut], float(weights))
        split.add(x[None, cut:], target[None, cut:], float(weights))
    assert torch.allclose(ridge_refit(split, ANCHOR, 0.01), ridge_refit(moments(), ANCHOR, 0.01), atol=1e-5)


def test_a_gram_wider_than_one_strip_is_summed_whole() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 400, 600, generator=generator)
    wide = Moments(600, 1, torch.device("cpu"))
    wide.add(x, torch.zeros(2, 400, 1), 2.0)
    rows = x.flatten(0, 1).double()
    assert torch.allclose(wide.gram.tril(), 2 * (rows.T @ rows).tril(), atol=1e-3)
    assert torch.allclose(
        ridge_refit(wide, torch.ones(1, 600), 1.0),
        torch.linalg.solve(
            2 * rows.T @ rows + (2 * rows.square().sum(0)).diag(), 2 * rows.square().sum(0)
        ).float()[None],
        atol=1e-4,
    )


def test_a_strong_ridge_keeps_the_weight() -> None:
    assert torch.allclose(ridge_refit(moments(), ANCHOR, 1e8), ANCHOR, atol=1e-4)


def test_a_gram_that_is_not_finite_is_refused() -> None:
    broken = moments()
    broken.add(torch.full((1, 1, 8), float("inf")), torch.zeros(1, 1, 5), 1.0)
    with pytest.raises(InputError, match=r"surgery\.ridge"):
        ridge_refit(broken, ANCHOR, 0.01)


def test_a_channel_that_was_silent_keeps_its_weight() -> None:
    silent = Moments(8, 5, torch.device("cpu"))
    silent.add(X * (torch.arange(8) > 0), TARGET, 1.0)
    assert torch.allclose(ridge_refit(silent, ANCHOR, 0.01)[:, 0], ANCHOR[:, 0], atol=1e-5)


def test_where_all_channels_were_silent_every_weight_stays() -> None:
    assert torch.equal(ridge_refit(Moments(8, 5, torch.device("cpu")), ANCHOR, 0.01), ANCHOR)


@pytest.mark.parametrize("channels", [8, NARROWEST + 37])
def test_what_a_weight_misses_is_its_squared_error_over_the_targets_energy(channels: int) -> None:
    generator = torch.Generator().manual_seed(2)
    x, weight = (
        torch.randn(3, 40, channels, generator=generator),
        torch.randn(5, channels, generator=generator),
    )
    target, shares = torch.randn(3, 40, 5, generator=generator), (1.0, 0.0, 2.5)
    found = Moments(channels, 5, torch.device("cpu"))
    for one, goal, share in zip(x, target, shares, strict=True):
        found.add(one[None], goal[None], share)
    errors = (target - x @ weight.T).double().square().sum((1, 2))
    energies = target.double().square().sum((1, 2))
    expected = float((torch.tensor(shares) @ errors.float()) / (torch.tensor(shares) @ energies.float()))
    assert missed(found, weight) == pytest.approx(expected, rel=1e-4)


def test_the_refit_misses_less_and_leaves_the_moments_as_they_were() -> None:
    found = moments()
    before = missed(found, ANCHOR)
    after = missed(found, ridge_refit(found, ANCHOR, 0.01))
    assert after < before
    assert missed(found, ANCHOR) == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize("ridge", [0.01, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_the_refit_misses_is_known_without_the_gram_matrix(ridge: float, dtype: torch.dtype) -> None:
    found, anchor = moments(), ANCHOR.to(dtype)
    weight = ridge_refit(found, anchor, ridge)
    expected = missed(found, weight)
    assert missed_by_refit(found, weight, anchor, ridge) == pytest.approx(
        expected, rel=1e-6 if dtype is torch.float32 else 5e-3
    )
