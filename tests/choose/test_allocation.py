"""Masks against a brute-force loop, and the laws that hold for every budget."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateurs.choose.allocation import per_layer_masks, uniform_masks
from secateurs.choose.candidates import Candidate
from secateurs.errors import InputError

LAYERS, UNITS, COST, GROUPS, GROUP_COST = 3, 24, 10, 4, 37
FLOOR = 0.01


def mlp(seed: int = 0, step: int = 1) -> list[Candidate]:
    generator = torch.Generator().manual_seed(seed)
    everything = torch.ones(UNITS, dtype=torch.bool)
    return [
        Candidate(
            f"{layer}/mlp",
            "mlp",
            torch.rand(UNITS, generator=generator).double(),
            everything.clone(),
            COST,
            step=step,
            fills_up=True,
        )
        for layer in range(LAYERS)
    ]


def with_attention(seed: int = 0, step: int = 1) -> list[Candidate]:
    generator = torch.Generator().manual_seed(seed + 1)
    everything = torch.ones(GROUPS, dtype=torch.bool)
    return mlp(seed, step) + [
        Candidate(
            f"{layer}/attention",
            "attention",
            torch.rand(GROUPS, generator=generator).double(),
            everything.clone(),
            GROUP_COST,
        )
        for layer in range(LAYERS)
    ]


def removed(candidates: list[Candidate], masks: dict[str, torch.Tensor]) -> int:
    return sum(one.cost * int((~masks[one.name]).sum()) for one in candidates)


def continued(candidates: list[Candidate], masks: dict[str, torch.Tensor]) -> list[Candidate]:
    return [replace(one, kept=masks[one.name]) for one in candidates]


def test_uniform_removes_the_least_of_every_layer_as_a_loop_would() -> None:
    candidates = mlp()
    masks = uniform_masks(candidates, 5 * LAYERS * COST, FLOOR)
    for one in candidates:
        threshold = sorted(one.scores.tolist())[5]
        assert masks[one.name].tolist() == [score >= threshold for score in one.scores.tolist()]


def test_per_layer_removes_the_least_of_all_as_a_loop_would() -> None:
    candidates = with_attention()
    budget, gone = 300, 0
    everything = sorted(
        (score / one.cost, one.name, unit, one.cost)
        for one in candidates
        for unit, score in enumerate(one.scores.tolist())
    )
    expected = {one.name: [True] * len(one.kept) for one in candidates}
    for _, name, unit, cost in everything:
        if gone >= budget:
            break
        expected[name][unit] = False
        gone += cost
    masks = per_layer_masks(candidates, budget, FLOOR)
    assert {name: mask.tolist() for name, mask in masks.items()} == expected


@given(budget=st.integers(1, LAYERS * (UNITS - 1) * COST), seed=st.integers(0, 99))
def test_uniform_meets_the_budget_to_within_one_channel_a_layer(budget: int, seed: int) -> None:
    candidates = mlp(seed)
    masks = uniform_masks(candidates, budget, FLOOR)
    assert 0 <= removed(candidates, masks) - budget < LAYERS * COST
    assert len({int(mask.sum()) for mask in masks.values()}) == 1


@given(budget=st.integers(1, LAYERS * (UNITS - 1) * COST), seed=st.integers(0, 99))
def test_per_layer_meets_the_budget_to_within_one_channel(budget: int, seed: int) -> None:
    candidates = mlp(seed)
    masks = per_layer_masks(candidates, budget, FLOOR)
    assert 0 <= removed(candidates, masks) - budget < COST


@given(
    shares=st.lists(st.floats(0.05, 0.7), min_size=2, max_size=4).map(sorted),
    multiple=st.sampled_from([1, 4]),
    allocate=st.sampled_from([uniform_masks, per_layer_masks]),
    attention=st.booleans(),
)
def test_masks_are_nested_whatever_later_scores_say(shares, multiple, allocate, attention) -> None:  # type: ignore[no-untyped-def]
    candidates = with_attention() if attention else mlp()
    total = sum(one.cost * len(one.kept) for one in candidates)
    before = {one.name: one.kept for one in candidates}
    for number, share in enumerate(shares):
        fresh = with_attention(number, multiple) if attention else mlp(number, multiple)
        masks = allocate(continued(fresh, before), round(share * total), 0.05)
        assert not any(bool((masks[name] & ~before[name]).any()) for name in masks)
        before = masks


@given(share=st.floats(0.05, 0.8), allocate=st.sampled_from([uniform_masks, per_layer_masks]))
def test_mlp_widths_are_multiples(share, allocate) -> None:  # type: ignore[no-untyped-def]
    candidates = mlp(step=4)
    masks = allocate(candidates, round(share * LAYERS * UNITS * COST), 0.1)
    assert all(int(mask.sum()) % 4 == 0 for mask in masks.values())


def test_a_width_that_is_no_multiple_is_brought_to_one_first() -> None:
    masks = per_layer_masks(mlp(step=7), 1, 0.1)
    assert sorted(int(mask.sum()) for mask in masks.values()) == [21, UNITS, UNITS]


@given(allocate=st.sampled_from([uniform_masks, per_layer_masks]), seed=st.integers(0, 99))
def test_no_site_falls_below_the_floor(allocate, seed) -> None:  # type: ignore[no-untyped-def]
    candidates = mlp(seed)
    masks = allocate(candidates, round(0.7 * LAYERS * UNITS * COST), 0.25)
    assert all(int(mask.sum()) >= 6 for mask in masks.values())


@pytest.mark.parametrize("allocate", [uniform_masks, per_layer_masks])
def test_a_budget_beyond_the_floors_is_refused(allocate) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=r"prune\.sparsity.*prune\.floor: 0\.5.*at most 360"):
        allocate(mlp(), 400, 0.5)


def test_uniform_takes_attention_where_it_matters_less_than_mlp() -> None:
    candidates = [
        replace(one, scores=one.scores * (1e-6 if one.kind == "attention" else 1.0))
        for one in with_attention()
    ]
    masks = uniform_masks(candidates, 2 * LAYERS * GROUP_COST, FLOOR)
    assert all(int((~masks[one.name]).sum()) == (2 if one.kind == "attention" else 0) for one in candidates)


def test_all_equal_scores_still_meet_the_budget() -> None:
    candidates = [replace(one, scores=torch.ones(UNITS).double()) for one in mlp()]
    assert removed(candidates, per_layer_masks(candidates, 100, FLOOR)) == 100


def query_heads(seed: int = 0) -> list[Candidate]:
    generator = torch.Generator().manual_seed(seed)
    everything = torch.ones(12, dtype=torch.bool)
    return [
        Candidate(
            f"{layer}/query_heads", "query_heads", torch.rand(12, generator=generator), everything, 5, 3, 3
        )
        for layer in range(LAYERS)
    ]


@pytest.mark.parametrize("allocate", [uniform_masks, per_layer_masks])
def test_every_group_loses_its_own_worst_units_and_equally_many(
    allocate: Callable[..., dict[str, torch.Tensor]],
) -> None:
    candidates = query_heads()
    for budget in (1, 16, 46, 100):
        masks = allocate(candidates, budget, FLOOR)
        assert removed(candidates, masks) >= budget
        for one in candidates:
            for scores, mask in zip(one.scores.view(3, 4), masks[one.name].view(3, 4), strict=True):
                assert mask.sum() == masks[one.name].sum() / 3 > 0
                assert mask.all() or scores[~mask].max() < scores[mask].min()


def test_a_group_keeps_one_unit_at_least() -> None:
    with pytest.raises(InputError, match="leave at most 135 to remove"):
        per_layer_masks(query_heads(), 136, FLOOR)


def mixture(step: int = 1) -> list[Candidate]:
    """A dense layer, then one of four experts and a shared mlp of twice their width, sized by one entry."""
    generator = torch.Generator().manual_seed(3)
    sizes = [("0/mlp", 48, "dense", step), *((f"1/mlp.{n}", 12, "experts", step) for n in range(4))]
    sizes.append(("1/mlp.4", 24, "experts", 2 * step))
    return [
        Candidate(
            name,
            "mlp",
            torch.rand(units, generator=generator).double(),
            torch.ones(units, dtype=torch.bool),
            COST,
            step=each,
            fills_up=True,
            sized_by=entry,
        )
        for name, units, entry, each in sizes
    ]


@pytest.mark.parametrize(("step", "budget"), [(1, 7 * COST), (1, 60 * COST), (2, 50 * COST), (4, 80 * COST)])
def test_mlps_counted_by_several_entries_keep_the_same_share(step: int, budget: int) -> None:
    sites = mixture(step)
    kept = {name: int(mask.sum()) for name, mask in uniform_masks(sites, budget, FLOOR).items()}
    units = {site.name: len(site.kept) for site in sites}
    removed = sum(units[name] - kept[name] for name in units) * COST
    # Less than one step of every site beyond the budget.
    assert budget <= removed < budget + sum(site.step for site in sites) * COST
    assert len({kept[f"1/mlp.{n}"] for n in range(4)}) == 1
    # What is twice as wide by the same entry stays so.
    assert kept["1/mlp.4"] == 2 * kept["1/mlp.0"]
    shares = [kept[name] / units[name] for name in ("0/mlp", "1/mlp.0")]
    assert abs(shares[0] - shares[1]) <= step / 12
