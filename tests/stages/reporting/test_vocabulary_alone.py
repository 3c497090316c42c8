"""What is reported of a run that cuts the vocabulary alone: no channel can go, so none is shown."""

import json
from pathlib import Path

import pytest

from stages.reporting.figure_data import TABLES
from stages.reporting.figures import draw_figures
from stages.reporting.html import to_html
from stages.reporting.metrics import Evidence, build_metrics
from stages.reporting.page_parts import Section
from stages.reporting.run_page import build_page
from tests.stages.reporting.evidence import history, read_back, write_evidence


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    write_evidence(tmp_path)
    nothing = {"kept": {}, "full": {}, "sparsity": 0.0, "agreement": {"domains": [], "matrix": []}}
    rounds = [entry | nothing for entry in history()]
    (tmp_path / "rounds/r2/history.json").write_text(json.dumps(rounds))
    (tmp_path / "healing.json").write_text("[]")
    return read_back(tmp_path)


def test_figures_of_channels_are_left_out(evidence: Evidence) -> None:
    found = draw_figures(evidence)
    assert "perplexity_by_domain" in found
    assert {"kept_channels", "domain_agreement", "healing_error"} & set(found) == set()
    assert {name: rows(evidence) for name, (_, rows) in TABLES.items()}["domain_agreement"] == []


def test_the_page_has_no_place_for_them(evidence: Evidence) -> None:
    page = build_page("a model", evidence, build_metrics(evidence), Section("Provenance", ()), None)
    html = to_html(page, {name: one.svg for name, one in draw_figures(evidence).items()})
    assert "bits per byte" in html
    assert "Domain agreement" not in html
    assert "ranked by" not in html
