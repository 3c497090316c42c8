import re
from dataclasses import replace
from pathlib import Path

import pytest

from stages.reporting.figures import FIGURES, draw_figures
from stages.reporting.metrics import Evidence
from stages.reporting.style import COLOURS, INK, MANY, ON_DARK, Picture
from tests.stages.reporting.evidence import write_evidence


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return uneven(write_evidence(tmp_path))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    """All figures of the evidence as it is, drawn once for the tests that look at them."""
    return draw_figures(uneven(write_evidence(tmp_path_factory.mktemp("data"))))


def uneven(evidence: Evidence) -> Evidence:
    """The same with layers of different widths, so that there is a figure of them."""
    for entry in evidence.rounds:
        entry["kept"]["mlp"][0] += 2
    return evidence


def words(picture: Picture) -> list[str]:
    return re.findall(r">([^<>\n]+)</text>", picture.svg)


def test_same_evidence_gives_the_same_bytes(evidence: Evidence, pictures: dict[str, Picture]) -> None:
    assert draw_figures(evidence) == pictures


def test_every_figure_is_a_png_and_an_svg(pictures: dict[str, Picture]) -> None:
    assert set(pictures) == set(FIGURES)
    for picture in pictures.values():
        assert picture.png.startswith(b"\x89PNG")
        assert "<svg" in picture.svg


def test_axes_have_units_and_lines_have_names(pictures: dict[str, Picture]) -> None:
    assert {"cut", "cut and healed", "mlp: missed, %"} <= set(words(pictures["healing_error"]))
    assert {"piqa", "boolq", "dense", "pruned"} <= set(words(pictures["accuracy_by_task"]))
    assert {"dense", "pruned"} <= set(words(pictures["perplexity_by_domain"]))
    assert "mlp: channels kept" in words(pictures["kept_channels"])


def test_every_figure_has_its_title_in_it(pictures: dict[str, Picture]) -> None:
    for name, picture in pictures.items():
        assert FIGURES[name].title in words(picture)


def test_what_there_is_nothing_of_has_no_figure(evidence: Evidence) -> None:
    for evaluation in (evidence.dense, evidence.pruned):
        evaluation["accuracy"].clear()
    bare = replace(evidence, healing=[])
    assert set(FIGURES) - set(draw_figures(bare)) == {"accuracy_by_task", "healing_error"}


def test_flat_lines_are_no_figure(tmp_path: Path) -> None:
    assert "kept_channels" not in draw_figures(write_evidence(tmp_path))


def test_two_figures_stand_side_by_side_on_a_screen_of_1400_dots(pictures: dict[str, Picture]) -> None:
    # A PNG has its width in the bytes 16 to 19.
    assert all(int.from_bytes(one.png[16:20], "big") <= 650 for one in pictures.values())


def test_the_ratio_stands_at_the_pruned_bar(pictures: dict[str, Picture]) -> None:
    assert words(pictures["perplexity_by_domain"]).count("12.5 (x 1.25)") == 2


def test_a_domain_is_not_compared_with_itself(pictures: dict[str, Picture]) -> None:
    assert [word for word in words(pictures["domain_agreement"]) if word == "0.70"] == ["0.70"] * 2


def test_one_domain_alone_still_has_a_figure(evidence: Evidence) -> None:
    for entry in evidence.rounds:
        entry["agreement"].update(domains=["code"], matrix=[[1.0]])
    assert "code" in words(draw_figures(evidence)["domain_agreement"])


def simulated(colour: str, matrix: list[list[float]]) -> list[float]:
    red, green, blue = ((int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5))
    return [max(0.0, a * red + b * green + c * blue) ** (1 / 2.2) for a, b, c in matrix]


# Machado, Oliveira and Fernandes 2009: severity 1.0.
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]


@pytest.mark.parametrize("colours", [COLOURS, ON_DARK], ids=["light", "dark"])
@pytest.mark.parametrize("matrix", [DEUTERANOPIA, PROTANOPIA], ids=["deuteranopia", "protanopia"])
def test_colours_stay_apart_for_colour_blind_readers(
    matrix: list[list[float]], colours: tuple[str, ...]
) -> None:
    seen = [simulated(colour, matrix) for colour in colours]
    for index, one in enumerate(seen):
        for other in seen[:index]:
            assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 0.1


def brightness(colour: str) -> float:
    """Relative luminance as WCAG 2 has it, in 0 to 1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("colours", "paper", "least"),
    [(COLOURS, "#ffffff", 3.0), (ON_DARK, "#10151b", 4.5), (MANY, "#ffffff", 2.5)],
)
def test_colours_stand_out_from_the_paper(colours: tuple[str, ...], paper: str, least: float) -> None:
    for colour in colours:
        low, high = sorted((brightness(colour), brightness(paper)))
        assert (high + 0.05) / (low + 0.05) >= least, colour


def test_ink_is_among_the_colours_so_that_dark_pages_can_turn_it() -> None:
    assert INK in COLOURS
    assert "#000000" not in COLOURS
