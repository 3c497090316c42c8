"""Means, spreads, winners and what leaving a domain out costs, on results that are easy to follow."""

from pathlib import Path

import pytest

from lab.study.experiment_results import Result, Scores, read_results, write_results
from lab.study.findings import (
    Left,
    best,
    choice_table,
    left_out,
    measured,
    transfer_table,
    usual_spread,
)
from lab.study.grid import Grid, grid
from lab.study.pictures import draw_curve, draw_transfer
from lab.study.study_page import build_page
from secateurs.errors import InputError
from tests.lab.study.test_grid import PARAMS

DOMAINS = ("code", "news")
AXES = """\
grids: {small: {about: Made up., settings: {}, seeds: [0]}}
axes:
  draw: {question: How far?, show: choice, seeds: [0, 1, 2], points: {default: {}}}
  metric:
    question: Which?
    show: choice
    seeds: [0, 1]
    points: {fisher: {}, wanda: {mask.metric: wanda}, random: {mask.metric: random}}
  sparsity: {question: What size?, show: curve, points: {more: {prune.sparsity: 0.4}, default: {}}}
  without:
    question: Does it carry over?
    show: transfer
    seeds: [0, 1]
    points: {every domain: {}, code: {mixture.code: 0.0}, news: {mixture.news: 0.0}}
"""


def result(name: str, ratios: tuple[float, float], removed: float = 0.2, accuracy: bool = True) -> Result:
    """`ratios`: of code and news, on a dense model at 10 and 40."""
    dense = dict(zip(DOMAINS, (10.0, 40.0), strict=True))
    pruned = {domain: dense[domain] * ratio for domain, ratio in zip(DOMAINS, ratios, strict=True)}
    return Result(
        name,
        "abc",
        ("prune.sites=[mlp,attention]", "+rounds.r4={after: r3, progress: 1.0}"),
        removed,
        Scores(1000, dense, (0.5, 0.05) if accuracy else None),
        Scores(round(1000 * (1 - removed)), pruned, (0.4, 0.05) if accuracy else None),
        None if accuracy else 2.5,
    )


@pytest.fixture
def made(tmp_path: Path) -> Grid:
    file = tmp_path / "axes.yaml"
    file.write_text(AXES, encoding="utf-8")
    mixture = dict.fromkeys([*PARAMS["domains"], "self", "dialogues"], 1.0)
    return grid("small", PARAMS | {"mixture": mixture}, file)


@pytest.fixture
def results() -> dict[str, Result]:
    ratios = {
        "draw-default-s0": (1.4, 1.4),
        "draw-default-s1": (1.5, 1.5),
        "draw-default-s2": (1.6, 1.6),
        "metric-wanda-s0": (1.9, 1.9),
        "metric-wanda-s1": (2.0, 2.0),
        "metric-random-s0": (8.0, 8.0),
        "sparsity-more-s0": (2.0, 2.0),
        "without-code-s0": (2.8, 1.4),
        "without-code-s1": (2.25, 1.5),
        "without-news-s0": (1.4, 1.54),
    }
    return {
        f"study-small-{name}": result(f"study-small-{name}", pair, 0.4 if "more" in name else 0.2)
        for name, pair in ratios.items()
    }


def test_ratio_and_worst_domain_are_means_over_the_draws(made: Grid, results: dict[str, Result]) -> None:
    (default,) = measured(made.axes[0], results)
    assert default.ratio == pytest.approx(1.5)
    assert default.spread == pytest.approx(0.1)
    assert default.worst[1] == pytest.approx(1.5)
    assert default.accuracy == pytest.approx((0.4, 0.05))
    assert usual_spread(made.axes, results) == pytest.approx(0.1 / 1.5)


def test_a_winner_is_ahead_by_more_than_the_spread(made: Grid, results: dict[str, Result]) -> None:
    fisher, wanda, random = measured(made.axes[1], results)
    assert fisher.ratio == pytest.approx(1.45)
    assert best([fisher, wanda, random], 0.06) is fisher
    # One draw spreads as far as the first point does: 0.06 * 8 is less than 8 - 1.95, 0.9 * 8 is not.
    assert best([random, wanda], 0.06) is wanda
    assert best([random, wanda], 0.9) is None
    assert best([random, wanda], None) is None, "no spread is known"
    assert best([fisher], 0.06) is None, "there is nothing to be ahead of"


def test_a_difference_within_the_spread_marks_nothing(made: Grid, results: dict[str, Result]) -> None:
    for seed, ratio in ((0, 1.42), (1, 1.52)):
        name = f"study-small-metric-wanda-s{seed}"
        results[name] = result(name, (ratio, ratio))
    assert best(measured(made.axes[1], results), 0.06) is None


def test_the_table_is_in_a_readers_order(made: Grid, results: dict[str, Result]) -> None:
    points = measured(made.axes[1], results)
    columns, rows = choice_table(points, points[0])
    expected = ("", "decoder removed", "perplexity", "ratio to dense", "worst domain's ratio", "accuracy")
    assert columns == expected
    assert rows[0][:4] == ("**fisher**", "20.0%", "29.00", "**1.450 ± 0.071**")
    assert rows[2][2:4] == ("160.00", "8.000")
    assert rows[2][5] == "0.400 ± 0.050"


def test_seconds_stand_where_they_are_known_and_accuracy_where_it_was_measured(made: Grid) -> None:
    name = "study-small-draw-default-s0"
    columns, rows = choice_table(
        measured(made.axes[0], {name: result(name, (1.0, 1.2), accuracy=False)}), None
    )
    assert columns[-2:] == ("worst domain's ratio", "seconds")
    assert rows[0][-2:] == ("1.200 (news)", "2.5")


def test_leaving_out_is_compared_draw_by_draw(made: Grid, results: dict[str, Result]) -> None:
    code, news = left_out(measured(made.axes[3], results))
    assert (code.domain, news.domain) == ("code", "news")
    assert code.inside == pytest.approx((1.4, 1.5))
    assert code.outside == pytest.approx((2.8, 2.25))
    assert code.costs == pytest.approx([1.0, 0.5])
    assert news.costs == pytest.approx([0.1]), "the draw that both have"
    columns, rows = transfer_table([code, news])
    assert columns == ("domain", "its ratio, in the mix", "its ratio, left out", "change")
    assert rows[0] == ("code", "1.450 ± 0.071", "2.525 ± 0.389", "+75.0% ± 35.4%")
    assert rows[1] == ("news", "1.400", "1.540", "+10.0%")
    assert len(rows) == 2, "no mean over domains of other draws"


def test_domains_left_out_in_the_same_draws_have_a_geometric_mean() -> None:
    domains = [Left("code", (1.0, 1.0), (1.0, 2.0)), Left("news", (1.0, 1.0), (4.0, 2.0))]
    _, rows = transfer_table(domains)
    assert rows[2] == ("geometric mean", "1.000 ± 0.000", "2.000 ± 0.000", "+100.0% ± 0.0%")


def test_the_page_has_a_section_for_each_question(made: Grid, results: dict[str, Result]) -> None:
    page = build_page(made, results, "tiny")
    assert page.text.startswith("# tiny: the small study\n\nMade up. 10 of 12 runs are done.")
    assert [line[3:] for line in page.text.splitlines() if line.startswith("## ")] == [
        axis.question for axis in made.axes
    ]
    assert "| **fisher** |" in page.text
    assert "Not all draws are done: random." in page.text
    assert page.text.index("| default | 20.0%") < page.text.index("| more | 40.0%")
    assert set(page.pictures) == {"small-sparsity.png", "small-without.png"}
    assert all(f"]({name})" in page.text for name in page.pictures)
    assert build_page(made, results, "tiny") == page


def test_a_grid_without_results_is_refused(made: Grid) -> None:
    with pytest.raises(InputError, match="small: no experiment of this grid has a result"):
        build_page(made, {}, "tiny")


def test_figures_name_what_they_show(made: Grid, results: dict[str, Result]) -> None:
    curve = draw_curve(measured(made.axes[2], results))
    assert all(words in curve.svg for words in ("parameters (millions)", "zero-shot accuracy", ">dense<"))
    transfer = draw_transfer(left_out(measured(made.axes[3], results)))
    assert all(words in transfer.svg for words in ("in the mix", "left out", "code", "pruned / dense"))


def test_results_are_read_as_they_were_written(tmp_path: Path, results: dict[str, Result]) -> None:
    file = tmp_path / "study/small.csv"
    assert read_results(file) == {}
    lean = result("lean", (1.1, 1.2), accuracy=False)
    write_results(file, [*results.values(), lean])
    assert read_results(file) == results | {"lean": lean}
    file.write_text("experiment,params\nx,y\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"small\.csv: not a table of study results"):
        read_results(file)
