"""What a model kept of several abilities, and weights that moved: in metrics, and where readers see them."""

from dataclasses import replace
from pathlib import Path

import pytest

from stages.reporting.markdown import to_section
from stages.reporting.metrics import Evidence, build_metrics
from stages.reporting.sections import headline_rows, rounds, zero_shot
from tests.stages.reporting.evidence import write_evidence


@pytest.fixture
def one_column(tmp_path: Path) -> Evidence:
    return write_evidence(tmp_path)


@pytest.fixture
def two_columns(one_column: Evidence) -> Evidence:
    """With a task in which the model writes, of which half is kept."""
    dense, pruned = (
        {
            **side,
            "accuracy": side["accuracy"] | {"gsm8k": {"exact": value, "exact_stderr": 0.01, "items": 60}},
        }
        for side, value in ((one_column.dense, 0.5), (one_column.pruned, 0.25))
    )
    differences = {**one_column.differences, "gsm8k": [-1.0, 0.0] * 30}
    return replace(one_column, dense=dense, pruned=pruned, differences=differences)


def test_the_worst_and_the_mean_share_are_of_columns(two_columns: Evidence) -> None:
    metrics = build_metrics(two_columns)
    choices = metrics["ratio"]["accuracy"]["mean"]
    assert metrics["ratio"]["kept"] == pytest.approx(
        {"worst": 0.5, "mean": (choices + 0.5) / 2, "zero-shot": choices, "gsm8k": 0.5}, abs=1e-4
    )
    shown = {row[0]: row[-1] for row in headline_rows(metrics)}
    assert shown["kept share of abilities, worst"] == "0.500"
    (section,) = zero_shot(two_columns)
    assert "gsm8k 0.500; the worst 0.500" in to_section(section, figures=False)


def test_one_column_has_its_ratio_and_no_shares(one_column: Evidence) -> None:
    metrics = build_metrics(one_column)
    assert "kept" not in metrics["ratio"]
    assert not any("kept share" in row[0] for row in headline_rows(metrics))
    (section,) = zero_shot(one_column)
    assert "Kept of" not in to_section(section, figures=False)


def test_weights_that_moved_are_shown_by_domain_and_round(one_column: Evidence) -> None:
    first, second = one_column.rounds
    moved = [
        {**first, "weights": {"code": 1.0, "news": 1.0}, "lost": {"code": 0.0, "news": 0.0}},
        {**second, "weights": {"code": 1.25, "news": 0.75}, "lost": {"code": 0.12, "news": 0.04}},
    ]
    text = to_section(rounds(replace(one_column, rounds=moved)), figures=False)
    assert "| domain | r1 | r2 |" in text
    assert "| code | 1.00 (0.000) | 1.25 (0.120) |" in text
    assert "| domain |" not in to_section(rounds(one_column), figures=False)
