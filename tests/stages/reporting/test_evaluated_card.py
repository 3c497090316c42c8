"""The card of an evaluated checkpoint, read back by the hub's own library."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from stages.reporting.evaluated_card import evaluated_card, front_matter
from stages.reporting.facts import facts
from stages.reporting.metrics import Evidence, build_metrics
from tests.stages.reporting.evidence import write_evidence

BEFORE = """\
---
license: mit
---

# tiny, pruned by 20%

Evaluate it on your own task.

## Size

| sizes | that the results have too |

## How it was made

- one round

## Runtimes tried

none
"""


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return write_evidence(tmp_path)


@pytest.fixture
def card(evidence: Evidence, tmp_path: Path) -> ModelCard:
    # Two files of one package: the same for readers who look at the data set alone.
    domains = {"code": "gensim==4.4.0", "news": "gensim==4.4.0"}
    data = front_matter("tiny-pruned", "mit", "acme/tiny", domains, evidence)
    metrics = build_metrics(evidence)
    path = tmp_path / "README.md"
    path.write_text(evaluated_card(BEFORE, data, evidence, metrics, facts(metrics, "Q4_1")))
    return ModelCard.load(path)


def test_the_hub_reads_the_base_model_and_every_result(card: ModelCard) -> None:
    assert (card.data.base_model, card.data.license) == ("acme/tiny", "mit")
    found = {one.dataset_name: one.metric_value for one in card.data.eval_results}
    assert found == {
        "code, held-out text": 12.5,
        "news, held-out text": 12.5,
        "piqa": 0.48,
        "boolq": 0.32,
    }
    assert card.data.eval_results[0].dataset_type == "gensim==4.4.0"


def test_errors_and_numbers_of_items_go_with_the_accuracies(card: ModelCard) -> None:
    names = [one.metric_name for one in card.data.eval_results if one.metric_type == "accuracy"]
    assert names == ["acc_norm, 60 items, standard error 0.030", "acc, 60 items, standard error 0.040"]


def test_results_stand_before_how_the_model_was_made(card: ModelCard) -> None:
    headings = [line[3:] for line in card.content.splitlines() if line.startswith("## ")]
    assert headings == ["In short", "Domains", "Zero-shot tasks", "Cost", "How it was made", "Runtimes tried"]
    assert "| code | 10.00 | 12.50 | 1.250 |" in card.content
    assert card.content.index("perplexity +25%") < card.content.index("## How it was made")


def test_the_card_says_what_the_first_one_said(card: ModelCard) -> None:
    assert "# tiny, pruned by 20%\n\nEvaluate it on your own task.\n" in card.content
    assert card.content.endswith("- one round\n\n## Runtimes tried\n\nnone\n")


def test_it_links_no_figure_that_the_checkpoint_lacks(card: ModelCard) -> None:
    assert "![" not in card.content
