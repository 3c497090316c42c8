import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from stages.common.artifacts import Sequence, write_sequences
from stages.evaluate import main
from tests.evaluation.test_tasks import ITEMS, write_items
from tests.project import ROOT, read_yaml, write_params


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    params = read_yaml()
    params["benchmarks"] = {"piqa": params["benchmarks"]["piqa"]}
    params["compute"]["device"] = "cpu"
    params["evaluate"] |= {"prompt_tokens": 16, "decode_tokens": 2, "repeats": 1}
    write_params(tmp_path, params)
    rows = [Sequence(domain, ("d",), tuple(range(5, 21))) for domain in ("news", "code")]
    write_sequences(tmp_path / "data/corpus/heldout.parquet", rows, {})
    (tmp_path / "data/benchmarks").mkdir()
    write_items(tmp_path / "data/benchmarks/piqa.jsonl", [ITEMS["piqa"][0]] * 3)
    monkeypatch.chdir(tmp_path)
    # The process that measures memory starts here as well.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_a_model_against_itself_has_every_measure(project, dense_dir):
    arguments = ["pruned", "--checkpoint", str(dense_dir), "--against", str(dense_dir)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    written = json.loads((project / "data/evaluations/pruned.json").read_text())
    assert set(written) == {"perplexity", "accuracy", "cost", "latency", "samples", "settings"}
    assert list(written["perplexity"]["domains"]) == ["news", "code"]
    assert written["accuracy"]["piqa"]["items"] == 3
    assert written["cost"]["peak_memory_bytes"] > 0
    assert written["latency"]["ratio"]["prefill_ms"] > 0


def test_a_missing_checkpoint_is_one_message(project):
    result = CliRunner().invoke(main, ["dense", "--checkpoint", "data/model"])
    assert result.exit_code == 1
    assert "data/model: cannot be loaded" in result.output
    assert "Traceback" not in result.output
    assert not (project / "data/evaluations").exists()
