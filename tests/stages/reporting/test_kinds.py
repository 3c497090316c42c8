"""What is reported of runs by other kinds than channels: each by the name of its units."""

import json
from pathlib import Path

from stages.reporting.markdown import to_markdown
from stages.reporting.metrics import build_metrics
from stages.reporting.page_parts import Section
from stages.reporting.run_page import build_page
from tests.stages.reporting.evidence import history, read_back, write_evidence


def test_a_run_that_removes_blocks_speaks_of_blocks(tmp_path: Path) -> None:
    write_evidence(tmp_path)
    blocks = {"kept": {"blocks": [1, 0, 1]}, "full": {"blocks": 1}}
    rounds = json.dumps([entry | blocks for entry in history()])
    (tmp_path / "rounds/r2/history.json").write_text(rounds, encoding="utf-8")
    evidence = read_back(tmp_path)
    page = build_page("a model", evidence, build_metrics(evidence), Section("Provenance", ()), None)
    text = to_markdown(page)
    assert "decoder blocks ranked by `" in text
    assert "over the decoder blocks that were left" in text
