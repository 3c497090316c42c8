from pathlib import Path

from stages.evaluation.figures import FIGURES, draw_figures
from stages.evaluation.metrics import read_evidence
from tests.evaluation.evidence import write_evidence


def test_same_evidence_gives_the_same_bytes(tmp_path: Path):
    write_evidence(tmp_path)
    evidence = read_evidence(tmp_path / "evaluations", tmp_path / "rounds" / "r2" / "history.json")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        draw_figures(evidence, tmp_path / name)
    for figure in FIGURES:
        file = f"{figure}.png"
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
