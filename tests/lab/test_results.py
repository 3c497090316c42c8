"""docs/results.md and README's figures are those of data/."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from lab.results import OURS, main, page, readme, runner_up
from secateurs.errors import InputError
from tests.project import ROOT, invoke


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_page_and_the_readme_are_what_the_command_writes() -> None:
    assert (ROOT / "docs/results.md").read_text(encoding="utf-8") == page()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme(text) == text


def test_the_command_writes_page_and_readme(here: Path) -> None:
    for name in ("README.md", "params.yaml"):
        shutil.copy(ROOT / name, here)
    (here / "docs").mkdir()
    (here / "data").symlink_to(ROOT / "data")
    invoke(main)
    for name in ("docs/results.md", "README.md"):
        assert (here / name).read_bytes() == (ROOT / name).read_bytes()


def test_every_row_of_every_table_of_baselines_is_on_the_page() -> None:
    text = page()
    for path in sorted((ROOT / "data/baselines").glob("*/table.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            there = list(csv.DictReader(file))
        assert len(there) > 5
        for row in there:
            name = "**Secateurs**" if row["method"] == OURS else row["method"]
            start = f"| {name} | {row['removed']} | {row['GB']} | {row['perplexity / dense']} | "
            assert start in text


def test_a_figure_that_was_typed_by_hand_is_replaced() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shipped = json.loads((ROOT / "data/baselines/qwen2.5-coder-1.5b/rows.json").read_bytes())["rows"]
    last = [row for row in shipped if not row.get("whole_only")][-1]
    typed = text.replace(f"| {last['held_out']:.3f} |", "| 1.000 |")
    assert typed != text
    assert readme(typed) == text


def test_a_readme_without_its_marks_is_refused() -> None:
    with pytest.raises(InputError, match=r"README\.md: 0 lines <!-- table"):
        readme("# Secateurs\n")


def test_the_runner_up_is_first_in_accuracy_and_of_two_alike_the_one_that_solves_more() -> None:
    rows = [
        {"share": "0", "method": "dense", "zero-shot": "0.900 ± 0.001", "gsm8k": "0.900 ± 0.001"},
        {"share": "0.2", "method": OURS, "zero-shot": "0.800 ± 0.001", "gsm8k": "0.800 ± 0.001"},
        {"share": "0.2", "method": "a", "zero-shot": "0.500 ± 0.001", "gsm8k": "0.100 ± 0.001"},
        {"share": "0.2", "method": "b", "zero-shot": "0.500 ± 0.001", "gsm8k": "0.300 ± 0.001"},
        {"share": "0.2", "method": "c", "zero-shot": "0.400 ± 0.001", "gsm8k": "0.700 ± 0.001"},
    ]
    assert runner_up(rows) == "b"
