"""The page of real models shows the figures that are committed beside it."""

import csv

import pytest

from tests.project import ROOT

PAGE = (ROOT / "lab/notes/2026-11-27-real-models.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("file", "columns"),
    [
        ("real-models.csv", slice(0, 10)),
        ("real-models-smollm2.csv", slice(None)),
    ],
)
def test_every_row_of_the_table_is_on_the_page(file: str, columns: slice) -> None:
    with (ROOT / "data/study" / file).open(encoding="utf-8") as opened:
        rows = list(csv.reader(opened))
    assert len(rows) > 8
    assert [row for row in rows if f"| {' | '.join(row[columns])} |" not in PAGE] == []
