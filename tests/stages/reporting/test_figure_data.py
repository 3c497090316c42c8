"""The tables beside the figures, read back, and DVC's plots of them."""

import csv
import io
import json
from pathlib import Path

import pytest

from stages.reporting.figure_data import TABLES, figure_tables
from stages.reporting.figures import FIGURES
from stages.reporting.metrics import Evidence
from tests.project import ROOT, read_yaml
from tests.stages.reporting.evidence import write_evidence


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return write_evidence(tmp_path)


def rows(evidence: Evidence, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(figure_tables(evidence)[name])))


def test_every_figure_has_its_data() -> None:
    assert set(TABLES) == set(FIGURES)


def test_the_ratio_is_of_pruned_to_dense(evidence: Evidence) -> None:
    assert rows(evidence, "perplexity_by_domain")[0] == {
        "domain": "code",
        "dense": "10.0",
        "pruned": "12.5",
        "ratio": "1.25",
    }


def test_an_accuracy_has_its_error_on_both_sides(evidence: Evidence) -> None:
    first = rows(evidence, "accuracy_by_task")[0]
    assert (first["low"], first["accuracy"], first["high"]) == ("0.57", "0.6", "0.63")


def test_healing_has_two_rows_a_site(evidence: Evidence) -> None:
    found = rows(evidence, "healing_error")
    assert [(row["layer"], row["state"], row["missed"]) for row in found[2:4]] == [
        ("2", "cut", "0.4"),
        ("0", "healed", "0.1"),
    ]


def test_no_domain_is_compared_with_itself(evidence: Evidence) -> None:
    pairs = [(row["domain"], row["other"]) for row in rows(evidence, "domain_agreement")]
    assert pairs == [("code", "news"), ("news", "code")]


def test_dvc_plots_each_table_by_columns_that_it_has_and_a_template_that_there_is() -> None:
    dvc = read_yaml(ROOT / "dvc.yaml")
    declared = {
        Path(path).stem: options
        for entry in dvc["stages"]["report"]["plots"]
        for path, options in entry.items()
        if path.endswith(".csv")
    }
    assert set(declared) == set(TABLES)
    for name, options in declared.items():
        assert {options["x"], options["y"]} <= set(TABLES[name][0])
        assert options["cache"] is False
        template = (ROOT / f".dvc/plots/{options['template']}.json").read_text(encoding="utf-8")
        assert "<DVC_METRIC_DATA>" in json.dumps(json.loads(template))
