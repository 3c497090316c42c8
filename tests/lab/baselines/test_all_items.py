"""Accuracy on all items of the tasks, on the tiny project of test_comparison."""

import json
from pathlib import Path

import pytest

from lab.baselines.all_items import markdown
from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.evaluation.asking import Asking
from secateurs.evaluation.zero_shot import score_tasks
from tests.evaluation.test_tasks import write_items
from tests.lab.baselines.test_comparison import compare, inside, project
from tests.project import change, read_yaml, write_params

__all__ = ["inside", "project"]
pytestmark = pytest.mark.usefixtures("quick_programs")

GOALS = ("open the jar", "cut the branch", "dry the leaf", "sharpen the blade", "oil the hinge")


@pytest.fixture
def with_tasks(inside: Path) -> Path:
    """Five items of piqa, of which the pipeline's own evaluation takes two."""
    benchmarks = {"piqa": read_yaml()["benchmarks"]["piqa"]}
    changes = {"benchmarks": benchmarks, "evaluate.limit": 2}
    write_params(inside, change(read_yaml(inside / "params.yaml"), changes))
    (inside / "data/benchmarks").mkdir()
    items = [
        {
            "goal": goal,
            "choices": [f"turn it {number} times", "wait"],
            "labels": ["A", "B"],
            "answer": "AB"[number % 2],
        }
        for number, goal in enumerate(GOALS)
    ]
    write_items(inside / "data/benchmarks/piqa.jsonl", items)
    return inside


def test_every_item_is_scored_whatever_the_limit_of_the_evaluation(with_tasks: Path) -> None:
    result = compare(
        "--table", "all-items", "--baseline", "wanda-sp", "--baseline", "magnitude", "--jobs", "2"
    )
    assert result.exit_code == 0, result.output
    file = with_tasks / "data/baselines/all_items.json"
    dense, *others = json.loads(file.read_text())
    assert [one["baseline"] for one in others] == ["wanda-sp", "magnitude"]
    assert [one["accuracy"]["piqa"]["items"] for one in (dense, *others)] == [5, 5, 5]
    assert dense["settings"]["evaluate"]["limit"] == 0
    model = load_model(with_tasks / "data/model", "float32")
    tokenizer = load_tokenizer(with_tasks / "data/model")
    tasks = {"piqa": with_tasks / "data/benchmarks/piqa.jsonl"}
    score = score_tasks(model, tokenizer, tasks, Asking(0, 0, 4))["piqa"]
    assert dense["accuracy"]["piqa"] == score.record()
    assert "| Wanda-sp |" in file.with_suffix(".md").read_text(encoding="utf-8")


def test_without_tasks_there_is_nothing_to_score(inside: Path) -> None:
    result = compare("--table", "all-items", "--baseline", "wanda-sp")
    assert result.exit_code == 1
    assert "Error: params.yaml: benchmarks: empty" in result.output


def test_what_is_timed_does_not_run_beside_others(inside: Path) -> None:
    result = compare("--baseline", "wanda-sp", "--jobs", "2")
    assert result.exit_code == 1
    assert "Error: --jobs: 2: " in result.output


def test_the_page_has_the_dense_model_and_a_table_for_each_share() -> None:
    def record(baseline: str, share: float, perplexity: float, right: float) -> dict[str, object]:
        tasks = {
            "piqa": {
                "acc": 0.0,
                "acc_stderr": 0.0,
                "acc_norm": right,
                "acc_norm_stderr": 0.03,
                "items": 1000,
            },
            "boolq": {"acc": 0.5, "acc_stderr": 0.04, "items": 234},
        }
        return {"baseline": baseline, "share": share, "perplexity": perplexity, "accuracy": tasks}

    lines = markdown([record("dense", 0.0, 10.0, 0.7), record("flap", 0.2, 16.0, 0.6)]).splitlines()
    assert any("all 1,234 items" in line for line in lines)
    assert "| method | perplexity / dense | zero-shot | change | piqa | boolq |" in lines
    assert "| dense | 1.00 | 0.600 ± 0.025 | +0.000 | 0.700 ± 0.030 | 0.500 ± 0.040 |" in lines
    assert "| FLAP | 1.60 | 0.550 ± 0.025 | -0.050 | 0.600 ± 0.030 | 0.500 ± 0.040 |" in lines
    assert "## 20% of the decoder's parameters" in lines
