"""What a model kept of another's abilities, against shares worked out by hand."""

from typing import Any

import pytest

from secateurs.evaluation.scores import kept


def of(metric: str, value: float) -> dict[str, Any]:
    return {metric: value, f"{metric}_stderr": 0.01, "items": 100}


DENSE = {
    "arc_challenge": {**of("acc", 0.3), **of("acc_norm", 0.4)},
    "boolq": of("acc", 0.6),
    "gsm8k": of("exact_match", 0.5),
    "humaneval": of("pass@1", 0.8),
}
PRUNED = {
    "arc_challenge": {**of("acc", 0.3), **of("acc_norm", 0.3)},
    "boolq": of("acc", 0.6),
    "gsm8k": of("exact_match", 0.4),
    "humaneval": of("pass@1", 0.4),
}


def test_choices_are_one_column_and_written_answers_each_their_own() -> None:
    found = kept(PRUNED, DENSE)
    assert found is not None
    assert found.shares == pytest.approx({"zero-shot": 0.9, "gsm8k": 0.8, "humaneval": 0.5})
    assert found.worst == pytest.approx(0.5)
    assert found.mean == pytest.approx(2.2 / 3)


def test_written_answers_without_choices_are_columns() -> None:
    written = {name: DENSE[name] for name in ("gsm8k", "humaneval")}
    found = kept({name: PRUNED[name] for name in written}, written)
    assert found is not None
    assert found.shares == pytest.approx({"gsm8k": 0.8, "humaneval": 0.5})


def test_one_column_alone_has_no_worst_share() -> None:
    choices = {name: DENSE[name] for name in ("arc_challenge", "boolq")}
    assert kept(choices, choices) is None
    assert kept({}, {}) is None


def test_a_column_of_which_nothing_was_there_has_no_share() -> None:
    nothing = {**DENSE, "gsm8k": of("exact_match", 0.0)}
    found = kept(PRUNED, nothing)
    assert found is not None
    assert list(found.shares) == ["zero-shot", "humaneval"]
