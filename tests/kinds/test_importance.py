"""Each metric against its formula written as a loop."""

import pytest
import torch

from secateurs.errors import InputError
from secateurs.kinds.importance import METRICS, WEIGHT_METRICS, mixed_scores, rank_agreement, unit_scores

WEIGHT = torch.tensor([[1.0, 2.0, 0.0], [2.0, -1.0, 3.0]])
STATISTICS = {
    "square": torch.tensor([1.0, 2.0, 3.0]),
    "variance": torch.tensor([0.5, 1.0, 0.25]),
    "taylor": torch.tensor([7.0, 8.0, 9.0]),
    "fisher": torch.tensor([4.0, 5.0, 6.0]),
}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("fisher", [4, 5, 6]),
        ("taylor", [7, 8, 9]),
        ("wanda", [5 * 1, 5 * 2, 9 * 3]),
        ("fluctuation", [5 * 0.5, 5 * 1, 9 * 0.25]),
        ("magnitude", [5, 5, 9]),
    ],
)
def test_metric_is_its_formula(metric: str, expected: list[float]) -> None:
    assert METRICS[metric](WEIGHT, STATISTICS, torch.Generator()).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS)
def test_only_a_metric_of_weights_needs_more_than_their_shape(metric: str) -> None:
    scores = METRICS[metric](torch.full_like(WEIGHT, torch.nan), STATISTICS, torch.Generator())
    assert bool(scores.isnan().any()) == (metric in WEIGHT_METRICS)


def test_random_repeats_for_a_seed_and_differs_between_sites() -> None:
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    first, second = ([METRICS["random"](WEIGHT, STATISTICS, one) for _ in range(2)] for one in generators)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("metric", ["fisher", "taylor"])
def test_a_metric_without_its_gradients_is_refused_by_name(metric: str) -> None:
    forward_only = {name: STATISTICS[name] for name in ("square", "variance")}
    with pytest.raises(InputError, match=rf"mask.metric: {metric}: .*capture.gradients"):
        METRICS[metric](WEIGHT, forward_only, torch.Generator())


def test_a_group_sums_its_channels() -> None:
    assert unit_scores(torch.tensor([1.0, 2.0, 3.0, 4.0]), 2).tolist() == [3.0, 7.0]


def test_mixture_weights_are_brought_to_a_sum_of_one() -> None:
    scores = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0, 1.0])}
    assert mixed_scores(scores, {"a": 3.0, "b": 1.0}).tolist() == [0.75, 0.25]


def test_dialogues_are_brought_to_the_level_of_the_others_before_they_are_mixed() -> None:
    scores = {
        "news": torch.tensor([4.0, 0.0]),
        "code": torch.tensor([0.0, 8.0]),
        "talk": torch.tensor([0.001, 0.003]),
    }
    mixture = {"news": 1.0, "code": 1.0, "talk": 2.0}
    # The others mix to [2, 4], of sum 6; to that sum the dialogues are [1.5, 4.5].
    assert mixed_scores(scores, mixture, {"talk"}).tolist() == pytest.approx([1.75, 4.25])


@pytest.mark.parametrize("mixture", [{"news": 0.0, "talk": 2.0}, {"talk": 2.0}])
def test_dialogues_alone_are_taken_as_they_are(mixture: dict[str, float]) -> None:
    scores = {name: torch.tensor([1.0, 3.0]) for name in mixture}
    assert mixed_scores(scores, mixture, {"talk"}).tolist() == [1.0, 3.0]


def test_agreement_is_one_for_equal_order_and_minus_one_for_the_reverse() -> None:
    site = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([10.0, 20.0, 90.0])}
    site["c"] = -site["a"]
    matrix = torch.tensor(rank_agreement([site, site]))
    expected = torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]])
    assert torch.allclose(matrix, expected)
