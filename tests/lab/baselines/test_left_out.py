"""Prunings without a domain's text, scored on that domain, on the tiny project of test_comparison."""

import json
from pathlib import Path

import pytest

from lab.baselines.catalogue import BASELINES
from lab.baselines.left_out import markdown
from lab.baselines.programs.handover import Request
from lab.baselines.programs.secateurs import _settle
from lab.baselines.records import settings_of
from lab.baselines.runs import EVERYTHING
from lab.baselines.width import METHODS
from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.evaluation.perplexity import score_domains
from stages.common.artifacts import read_sequences
from stages.common.calibration import read_text
from stages.params.file import read_params
from tests.lab.baselines.test_comparison import compare, inside, project

__all__ = ["inside", "project"]
pytestmark = pytest.mark.usefixtures("quick_programs")


def record(
    baseline: str, without: str, perplexity: dict[str, float], share: float = 0.2
) -> dict[str, object]:
    return {
        "baseline": baseline,
        "share": share,
        "without": without,
        "perplexity": perplexity,
        "settings": {},
    }


def test_each_domain_is_scored_after_a_pruning_without_its_text(inside: Path) -> None:
    arguments = ("--table", "left-out", "--baseline", "wanda-sp", "--baseline", "magnitude")
    result = compare(*arguments, "--jobs", "3")
    assert result.exit_code == 0, result.output
    file = inside / "data/baselines/left_out.json"
    found = {(one["baseline"], one["without"]): one["perplexity"] for one in json.loads(file.read_text())}
    # magnitude reads no text: there is nothing to leave out.
    assert list(found) == [("dense", ""), ("wanda-sp", ""), ("wanda-sp", "code"), ("wanda-sp", "news")]
    assert list(found["wanda-sp", ""]) == ["code", "news"]
    model = load_model(inside / "data/model", "float32")
    text = read_text(inside / "data/corpus/calibration.parquet")
    METHODS["wanda-sp"](model, {"news": text.ids["news"][:3]}, 0.2)
    rows = [row for row in read_sequences(inside / "data/corpus/heldout.parquet") if row.domain == "code"]
    expected = score_domains(model, load_tokenizer(inside / "data/model"), rows, 8)
    assert list(found["wanda-sp", "code"]) == ["code"]
    assert found["wanda-sp", "code"]["code"] == pytest.approx(expected["code"].perplexity, rel=1e-4)
    assert "| Wanda-sp |" in file.with_suffix(".md").read_text(encoding="utf-8")
    # The second time nothing is run: a run would need more than one job.
    before = file.stat().st_mtime_ns
    assert compare(*arguments).exit_code == 0
    assert file.stat().st_mtime_ns == before


def test_a_run_that_fails_is_named_and_the_others_are_kept(inside: Path) -> None:
    result = compare("--table", "left-out", "--baseline", "optipfair-data", "--baseline", "depth-angular")
    assert result.exit_code == 1
    assert "Error: 3 failed:" in result.output
    assert "optipfair, data-driven at 20%, code left out: " in result.output
    found = json.loads((inside / "data/baselines/left_out.json").read_text())
    assert [one["baseline"] for one in found] == ["dense", *["depth-angular"] * 3]


def test_our_own_stages_are_given_a_weight_of_zero(inside: Path, tmp_path: Path) -> None:
    request = Request("secateurs", "", 0.3, "", "code", "", str(tmp_path), str(inside), "cpu", "float32")
    params = _settle(request)
    assert params.mixture == {"code": 0.0, "news": 1.0, "self": 0.0, "dialogues": 0.0}
    assert params.prune.sparsity == 0.3
    assert params.surgery.reconstruct.epochs == 0


def test_our_own_stages_can_be_given_other_settings_which_make_another_record(
    inside: Path, tmp_path: Path
) -> None:
    request = Request("secateurs-trained", "", 0.3, "", "", "", str(tmp_path), str(inside), "cpu", "float32")
    assert _settle(request).surgery.reconstruct.epochs == 4
    default, trained = (
        settings_of({}, read_params(), BASELINES[name]) for name in ("secateurs", "secateurs-trained")
    )
    assert default["surgery"]["reconstruct"]["epochs"] == 0
    assert trained["surgery"]["reconstruct"]["epochs"] == 4


def test_the_page_compares_in_the_mix_with_left_out() -> None:
    dense = record("dense", EVERYTHING, {"a": 10.0, "b": 20.0}, 0.0)
    whole = [
        record("flap", EVERYTHING, {"a": 20.0, "b": 40.0}),
        record("flap", "a", {"a": 30.0}),
        record("flap", "b", {"b": 40.0}),
    ]
    part = [record("gisp", EVERYTHING, {"a": 20.0, "b": 40.0}), record("gisp", "a", {"a": 30.0})]
    lines = markdown([dense, *part, *whole]).splitlines()
    assert "| method | in the mix | left out | change | a | b |" in lines
    assert "| FLAP | 2.00 | 2.45 | +22.5% | 3.00 | 2.00 |" in lines
    assert not any("GISP" in line for line in lines)
