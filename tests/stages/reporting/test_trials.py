import re
from pathlib import Path

import pytest

from stages.reporting.metrics import build_metrics
from stages.reporting.trials import Trial, draw_sweep, pareto_front, sweep_table, trial, varied
from tests.stages.reporting.evidence import write_evidence


def one(name: str, parameters: int, perplexity: float, accuracy: float | None, **settings: object) -> Trial:
    pair = None if accuracy is None else (accuracy, 0.05)
    return Trial(name, settings, parameters, 0.2, perplexity, perplexity / 20, pair)


TRIALS = [
    one("large", 900_000, 25.0, 0.50, metric="fisher", sparsity=0.1),
    one("small", 700_000, 40.0, 0.40, metric="fisher", sparsity=0.3),
    one("clumsy", 900_000, 60.0, 0.52, metric="random", sparsity=0.1),
]
DENSE = one("dense", 1_000_000, 20.0, 0.55)


def test_a_point_is_on_the_front_unless_another_is_at_most_as_high_in_both() -> None:
    points = [(1.0, 5.0), (2.0, 3.0), (2.0, 4.0), (3.0, 3.0), (4.0, 1.0)]
    assert pareto_front(points) == [True, True, False, False, True]


def test_equal_points_share_the_front() -> None:
    assert pareto_front([(1.0, 1.0), (1.0, 1.0)]) == [True, True]


def test_only_settings_that_differ_are_columns() -> None:
    trials = [one("a", 1, 1.0, None, seed=0, metric="fisher"), one("b", 1, 1.0, None, seed=0, extra=True)]
    assert varied(trials) == ["metric", "extra"]


def test_the_table_goes_from_small_to_large_and_names_the_best() -> None:
    columns, rows = sweep_table(TRIALS)
    assert columns[:3] == ("run", "metric", "sparsity")
    assert [row[0] for row in rows] == ["small", "large", "clumsy"]
    assert [row[-1] for row in rows] == ["perplexity, accuracy", "perplexity, accuracy", "accuracy"]
    assert rows[0][3:-1] == ("20.0%", "700,000", "40.00", "2.000", "0.400 ± 0.050")


def test_an_accuracy_beats_another_only_by_more_than_their_error() -> None:
    def rows(higher: float) -> dict[str, str]:
        trials = [one("a", 1, 1.0, 0.5), one("b", 1, 2.0, higher)]
        return {row[0]: row[-1] for row in sweep_table(trials)[1]}

    # The error of two accuracies of 0.05 each is 0.0707.
    assert rows(0.57) == {"a": "perplexity, accuracy", "b": "accuracy"}
    assert rows(0.58) == {"a": "perplexity", "b": "accuracy"}


def test_runs_without_tasks_have_no_accuracy_and_no_panel_for_it() -> None:
    trials = [one("a", 1, 1.0, None)]
    assert sweep_table(trials)[1][0][-2:] == ("", "perplexity")
    assert "accuracy" not in draw_sweep(trials, DENSE).svg


@pytest.mark.parametrize("by", [None, "metric"])
def test_the_figure_names_its_axes_its_front_and_its_groups(by: str | None) -> None:
    drawn = draw_sweep(TRIALS, DENSE, by)
    words = re.findall(r">([^<>\n]+)</text>", drawn.svg)
    assert {"parameters (millions)", "Pareto front (filled)", "dense"} <= set(words)
    assert {"metric: fisher", "metric: random"} <= set(words) if by else "pruned" in words
    assert drawn == draw_sweep(TRIALS, DENSE, by)


def test_a_run_is_read_from_its_params_and_metrics(tmp_path: Path) -> None:
    metrics = build_metrics(write_evidence(tmp_path))
    pruned = trial("run", {"prune": {"sparsity": 0.2}}, metrics)
    assert pruned.settings == {"prune.sparsity": 0.2}
    assert (pruned.parameters, pruned.removed, pruned.perplexity, pruned.ratio) == (1200, 0.2, 12.5, 1.25)
    assert trial("dense", {}, metrics, "dense").accuracy == (0.5, 0.025)


def test_runs_that_were_scored_on_other_items_share_no_front() -> None:
    few: dict[str, object] = {"evaluate.limit": 10}
    many: dict[str, object] = {"evaluate.limit": 100}
    trials = [
        Trial("few", few, 900, 0.1, 20.0, 1.0, (0.9, 0.01)),
        Trial("many", many, 900, 0.1, 25.0, 1.2, (0.5, 0.01)),
        Trial("worse", many, 900, 0.1, 30.0, 1.5, (0.4, 0.01)),
    ]
    best = {row[0]: row[-1] for row in sweep_table(trials)[1]}
    assert best == {"few": "perplexity, accuracy", "many": "perplexity, accuracy", "worse": ""}
    same = [Trial(one.name, few, *list(vars(one).values())[2:]) for one in trials]
    assert {row[0]: row[-1] for row in sweep_table(same)[1]} == {
        "few": "perplexity, accuracy",
        "many": "",
        "worse": "",
    }


def test_metrics_without_accuracy_are_those_of_a_run_without_tasks(tmp_path: Path) -> None:
    metrics = build_metrics(write_evidence(tmp_path))
    for model in ("dense", "pruned"):
        del metrics[model]["accuracy"]
    assert trial("a", {}, metrics).accuracy is None
    assert trial("dense", {}, metrics, "dense").accuracy is None
