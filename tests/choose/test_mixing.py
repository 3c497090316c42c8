"""Scores of domains as one, and the weights of domains from round to round."""

import math
from typing import Literal

import pytest
import torch

from secateurs.choose.mixing import MOST, mixed, reweighted
from secateurs.kinds.importance import mixed_scores
from secateurs.settings.pruning import Mask


def of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


SCORES = {"news": of(4, 3, 2, 1, 0), "code": of(0, 1, 2, 3, 94)}
EVEN = {"news": 1.0, "code": 1.0}


def test_sum_is_the_weighted_mean() -> None:
    weights = {"news": 3.0, "code": 1.0}
    assert torch.equal(mixed(SCORES, weights, Mask()), mixed_scores(SCORES, weights))


def test_worst_counts_a_unit_as_for_the_domain_that_needs_it_most() -> None:
    found = mixed(SCORES, EVEN, Mask(combine="worst"))
    # Each domain is brought to the level of the mean, whose sum is 55.
    expected = torch.maximum(SCORES["news"] / 10 * 55, SCORES["code"] / 100 * 55)
    assert torch.allclose(found, expected)
    assert found.argsort(descending=True).tolist() == [4, 0, 1, 2, 3]


def test_ranks_do_not_see_how_large_a_score_is() -> None:
    found = mixed(SCORES, {"news": 2.0, "code": 1.0}, Mask(combine="ranks"))
    expected = (2 * of(5, 4, 3, 2, 1) + of(1, 2, 3, 4, 5)) / 3
    assert torch.allclose(found / found.sum(), expected / expected.sum())


@pytest.mark.parametrize("combine", ["sum", "worst", "ranks"])
def test_a_domain_of_weight_0_plays_no_part(combine: Literal["sum", "worst", "ranks"]) -> None:
    others = {**SCORES, "poetry": of(9, 9, 9, 9, 1000)}
    found = mixed(others, {**EVEN, "poetry": 0.0}, Mask(combine=combine, own=0.2))
    assert torch.allclose(found, mixed(SCORES, EVEN, Mask(combine=combine, own=0.2)))


def test_every_domain_keeps_the_best_units_of_its_own() -> None:
    found = mixed(SCORES, {"news": 0.001, "code": 1.0}, Mask(own=0.4))
    # Of each domain the best two; among those the scores decide.
    assert set(found.topk(4).indices.tolist()) == {0, 1, 3, 4}
    assert mixed(SCORES, {"news": 0.001, "code": 1.0}, Mask()).topk(3).indices.tolist() == [4, 3, 2]


def test_weights_rise_with_what_was_lost() -> None:
    found = reweighted(EVEN, {"news": 0.1, "code": 0.3}, 1.0)
    assert found["code"] / found["news"] == pytest.approx(math.exp(0.5) / math.exp(-0.5))
    assert sum(found.values()) == pytest.approx(2.0)


def test_weights_stay_before_anything_is_lost() -> None:
    assert reweighted(EVEN, {"news": 0.0, "code": 0.0}, 1.0) == EVEN


def test_one_round_moves_a_weight_by_a_bounded_factor() -> None:
    found = reweighted({"news": 1.0, "code": 1.0}, {"news": 0.0, "code": 5.0}, 100.0)
    assert found["code"] / found["news"] == pytest.approx(MOST**2)


def test_a_domain_that_does_not_count_goes_on_not_counting() -> None:
    found = reweighted({**EVEN, "poetry": 0.0}, {"news": 0.1, "code": 0.3, "poetry": 9.0}, 1.0)
    assert found["poetry"] == 0.0
    assert sum(found.values()) == pytest.approx(2.0)
