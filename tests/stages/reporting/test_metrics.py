import json
import math
from pathlib import Path

import pytest

from secateurs.errors import InputError
from stages.common.artifacts import read_answers, write_answers
from stages.reporting.metrics import build_metrics, mean_agreement
from tests.stages.reporting.evidence import history, read_back, write_evidence


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_evidence(tmp_path)
    return tmp_path


def test_numbers_are_rounded_to_what_they_mean(data):
    metrics = build_metrics(read_back(data))
    assert metrics["dense"]["perplexity"] == {"geometric_mean": 10.0, "code": 10.0, "news": 10.0}
    assert metrics["pruned"]["macs_per_token"] == 1120


def test_no_measure_changes_from_run_to_run(data):
    metrics = build_metrics(read_back(data))
    measures = {"perplexity", "bits_per_byte", "accuracy"}
    counted = {"parameters", "decoder_parameters", "macs_per_token", "weight_bytes"}
    assert set(metrics["dense"]) == set(metrics["ratio"]) == measures | counted
    assert set(metrics["pruned"]) == measures | counted | {"sparsity"}


def test_sparsity_is_a_share_of_the_decoder_and_of_all_parameters(data):
    assert build_metrics(read_back(data))["pruned"]["sparsity"] == {"decoder": 0.2, "all": 0.2}


def test_mean_accuracy_takes_the_normalised_one_where_there_is_one(data):
    accuracy = build_metrics(read_back(data))["dense"]["accuracy"]
    assert accuracy["mean"] == pytest.approx((0.6 + 0.4) / 2)
    assert accuracy["mean_stderr"] == pytest.approx(math.hypot(0.03, 0.04) / 2)


def test_ratios_are_pruned_over_dense(data):
    ratio = build_metrics(read_back(data))["ratio"]
    assert ratio["perplexity"]["geometric_mean"] == 1.25
    assert ratio["bits_per_byte"]["mean"] == 1.25
    assert ratio["decoder_parameters"] == 0.8
    assert ratio["accuracy"]["mean"] == 0.8


def test_agreement_leaves_the_diagonal_out():
    assert mean_agreement(history()[0]) == pytest.approx(0.7)


def test_evaluations_of_different_domains_are_refused(data):
    path = data / "evaluations" / "dense" / "perplexity.json"
    dense = json.loads(path.read_text())
    del dense["perplexity"]["domains"]["news"]
    path.write_text(json.dumps(dense))
    with pytest.raises(InputError, match="perplexity: dense has code, pruned has code, news"):
        read_back(data)


def test_an_evaluation_without_its_cost_is_refused(data):
    (data / "evaluations" / "pruned" / "cost.json").write_text("{}")
    with pytest.raises(InputError, match=r"cost\.json: lacks cost"):
        read_back(data)


def test_empty_history_is_refused(data):
    (data / "rounds" / "r2" / "history.json").write_text("[]")
    with pytest.raises(InputError, match=r"history\.json: expected a list"):
        read_back(data)


def test_a_difference_has_the_error_of_the_items_own_differences(data):
    found = build_metrics(read_back(data))["difference"]["accuracy"]
    # 12 of 60 items that the dense model answers are lost, in each of two tasks.
    assert found["piqa"] == -0.2
    assert found["piqa_stderr"] == pytest.approx(math.sqrt(0.2 * 0.8 / 59), abs=1e-4)
    assert found["mean_stderr"] == pytest.approx(math.sqrt(0.2 * 0.8 / 59) / math.sqrt(2), abs=1e-4)


def test_evaluations_of_different_items_are_refused(data):
    path = data / "evaluations" / "dense" / "answers.parquet"
    write_answers(path, read_answers(path)[1:])
    with pytest.raises(InputError, match="dense and pruned answered other items; run both evaluations again"):
        read_back(data)
