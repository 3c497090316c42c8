"""Sharing a target out among kinds, on tables made by hand and against every other way to share it."""

from itertools import product
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateurs.choose.chosen import settled
from secateurs.choose.shares import Curve, Trial, cheapest, curve, shared_out
from secateurs.settings.pruning import Memory, Prune

EVEN = {"news": 1.0, "code": 1.0}


def trials(kind: str, *found: tuple[int, float]) -> list[Trial]:
    return [Trial(kind, size, size, {"news": cost, "code": cost}) for size, cost in found]


def of(kind: str, *found: tuple[int, float], unit: float = 1) -> Curve:
    return curve(trials(kind, *found), unit, EVEN, "mean")


def test_the_cheapest_lines_go_first() -> None:
    mlp = of("mlp", (100, 0.1), (200, 0.4), (300, 0.9))
    attention = of("attention", (100, 0.2), (200, 0.8))
    # 0.001 and 0.002 for each parameter of the first hundreds; then 0.003 of mlp before 0.006 of attention.
    assert shared_out([mlp, attention], 100) == {"mlp": 100}
    assert shared_out([mlp, attention], 150) == {"mlp": 100, "attention": 50}
    assert shared_out([mlp, attention], 260) == {"mlp": 160, "attention": 100}
    assert shared_out([mlp, attention], 450) == {"mlp": 300, "attention": 150}
    assert shared_out([mlp, attention], 501) is None


def test_what_is_left_of_a_whole_step_goes_where_one_more_costs_least() -> None:
    mlp = of("mlp", (100, 0.1), (200, 0.4), unit=10)
    attention = of("attention", (120, 0.06), unit=60)
    assert shared_out([mlp, attention], 65) == {"attention": 60, "mlp": 10}
    # One more step of attention costs 0.03, six of mlp 0.06.
    assert shared_out([mlp, attention], 117) == {"attention": 120}


def test_a_trial_above_the_line_between_others_is_left_out() -> None:
    bent = of("mlp", (100, 0.3), (200, 0.2), (300, 0.6))
    assert [size for size, _, _ in bent.points] == [0, 200, 300]
    assert bent.at(100) == (100, pytest.approx(0.1))


def test_the_mean_weighs_domains_and_the_worst_is_the_dearest_that_counts() -> None:
    trial = Trial("mlp", 1, 1, {"news": 0.1, "code": 0.4, "poems": 0.9})
    mixture = {"news": 3.0, "code": 1.0, "poems": 0.0}
    assert trial.cost(mixture, "mean") == pytest.approx((3 * 0.1 + 0.4) / 4)
    assert trial.cost(mixture, "worst") == 0.4


def test_kinds_that_hold_one_another_are_not_chosen_together() -> None:
    blocks = of("blocks", (100, 0.01), (200, 0.5), unit=100)
    mlp = of("mlp", (100, 0.1), (200, 0.3))
    rows = of("vocabulary", (100, 0.02))
    # Blocks alone 0.5, mlp alone 0.3; beside rows 0.03 and 0.12.
    assert cheapest([blocks, mlp], 200) == {"mlp": 200}
    assert cheapest([rows, blocks, mlp], 200) == {"vocabulary": 100, "blocks": 100}
    assert cheapest([rows, blocks, mlp], 501) is None


def test_rows_that_cost_more_than_channels_stay() -> None:
    assert cheapest([of("vocabulary", (100, 0.5)), of("mlp", (100, 0.1), (200, 0.3))], 200) == {"mlp": 200}


@st.composite
def tables(draw: st.DrawFn) -> list[Curve]:
    """Curves of up to three kinds, their costs rising faster and faster."""
    curves = []
    for kind in draw(st.sampled_from([["mlp"], ["mlp", "attention"], ["mlp", "attention", "vocabulary"]])):
        slopes = sorted(draw(st.lists(st.integers(1, 50), min_size=1, max_size=3)))
        found = [(number + 1, fsum(slopes[: number + 1]) / 100) for number in range(len(slopes))]
        curves.append(of(kind, *found))
    return curves


@given(tables(), st.integers(1, 9))
def test_no_other_way_to_share_a_target_costs_less(curves: list[Curve], target: int) -> None:
    ways = [
        sizes
        for sizes in product(*(range(int(one.points[-1][0]) + 1) for one in curves))
        if sum(sizes) >= target
    ]
    found = cheapest(curves, target)
    if found is None:
        assert ways == []
        return
    assert sum(found.values()) >= target
    least = min(
        fsum(one.at(size)[1] for one, size in zip(curves, sizes, strict=True) if size) for sizes in ways
    )
    by_kind = {one.kind: one for one in curves}
    assert fsum(by_kind[kind].at(size)[1] for kind, size in found.items()) == pytest.approx(least)


def test_rows_alone_leave_a_budget_without_sites_and_target() -> None:
    memory = Memory(bytes=1000, precision="float32")
    prune = Prune(memory=memory, sites="auto")
    alone = settled(prune, {"sites": [], "shares": {}, "rows": 128})
    assert (alone.sites, alone.memory, alone.vocabulary.rows) == ([], None, 128)
    both = settled(prune, {"sites": ["mlp"], "shares": {}, "rows": 128})
    assert (both.sites, both.memory, both.vocabulary.rows) == (["mlp"], memory, 128)
