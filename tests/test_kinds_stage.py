"""`prune.sites: auto` through the stages and their files, on a tiny model whose target rows count towards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from stages import corpus, kinds, plan, surgery, vocabulary
from stages.common.paths import MODEL
from tests.project import invoke, invoke_all, read_yaml
from tests.test_vocabulary_stage import CHANGES, ROUNDS, project

__all__ = ["project"]
LEFT = 0.85


def auto() -> dict[str, Any]:
    prune = {key: value for key, value in read_yaml()["prune"].items() if key != "sparsity"}
    tried = {"kinds": ["vocabulary", "mlp", "attention"], "trials": 2, "sequences": 3, "left_out": 1}
    return prune | {
        "sites": "auto",
        "auto": tried | {"over": "mean"},
        "width_multiple": 1,
        "parameters": int(LEFT * dense_parameters()),
        "vocabulary": CHANGES["prune.vocabulary"] | {"rows": 0},
    }


def dense_parameters() -> int:
    # Three layers of 32 channels, 48 in the mlp, 4 heads in 2 groups; 512 rows; norms.
    return 3 * (3 * 48 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 2 * 32) + 512 * 32 + 32


@pytest.mark.usefixtures("quick_programs")
def test_the_stages_prune_by_the_kinds_that_trials_chose(project: Callable[..., Path]) -> None:
    directory = project(**{"corpus.calibration_sequences": 5}, prune=auto())
    assert AutoModelForCausalLM.from_pretrained(MODEL).num_parameters() == dense_parameters()
    invoke(corpus.main)
    said = invoke(kinds.main)
    chosen = json.loads((directory / "data/kinds.json").read_text())
    assert "nats per byte expected" in said
    assert {one["kind"] for one in chosen["trials"]} == {"vocabulary", "mlp", "attention"}
    invoke_all((vocabulary.main,), *ROUNDS, (surgery.main,))
    small = AutoModelForCausalLM.from_pretrained("data/pruned")
    left = small.num_parameters()
    assert left <= LEFT * dense_parameters()
    assert left > (LEFT - 0.1) * dense_parameters()
    if chosen["rows"]:
        assert small.config.vocab_size == chosen["rows"]
    history = json.loads((directory / "data/rounds/r3/history.json").read_text())
    assert list(history[-1]["kept"]) == chosen["sites"]
    if len(chosen["sites"]) > 1:
        card = (directory / "data/pruned/README.md").read_text(encoding="utf-8")
        assert "- parameters removed: " in card


def test_fixed_sites_leave_nothing_to_choose(project: Callable[..., Path]) -> None:
    directory = project()
    assert "nothing to choose, because prune.sites names them" in invoke(kinds.main)
    assert json.loads((directory / "data/kinds.json").read_text()) == {"sites": None}


def test_a_mask_without_the_choice_says_which_stage_makes_it(project: Callable[..., Path]) -> None:
    project(**{"corpus.calibration_sequences": 5}, prune=auto())
    assert "data/kinds.json: not found; run `dvc repro`" in invoke(vocabulary.main, status=1)


def test_too_little_text_to_judge_trials_by_is_refused(project: Callable[..., Path]) -> None:
    project(prune=auto())
    message = "prune.auto.left_out: 1: of corpus.calibration_sequences: 4 a trial reads 4"
    assert message in invoke(plan.main, "--check", status=1)
