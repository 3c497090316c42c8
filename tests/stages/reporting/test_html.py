"""The page opens from disk with nothing else: whole, escaped, and without a link to the network."""

from html.parser import HTMLParser

import pytest

from stages.reporting.figures import FIGURES, draw_figures
from stages.reporting.html import to_html
from stages.reporting.metrics import build_metrics
from stages.reporting.page_parts import Section, Table
from stages.reporting.run_page import build_page
from stages.reporting.style import GRID, INK
from tests.stages.reporting.evidence import write_evidence

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Outline(HTMLParser):
    """Tags, attributes and text of a page; every tag must be closed by its own."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in {"src", "href", "xlink:href", "data"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    data = tmp_path_factory.mktemp("data")
    evidence = write_evidence(data)
    # A model that writes marks must not write into the page.
    evidence.pruned["samples"][0]["continuation"] = "<script>alert(1)</script> & `more`"
    origin = Section("Where this comes from", (Table(("what", "value"), [("dense model", "a file")]),))
    page = build_page("tiny <b>", evidence, build_metrics(evidence), origin, None)
    return to_html(page, {name: picture.svg for name, picture in draw_figures(evidence).items()})


def test_it_needs_no_other_file_and_no_network(html: str) -> None:
    outline = Outline(html)
    assert outline.links
    assert all(
        link.startswith(("#", "data:image/png;base64,", "data:text/csv;base64,")) for link in outline.links
    )
    assert "@import" not in html
    assert all(part.startswith("#") for part in html.split("url(")[1:])
    assert "script" not in outline.tags


def test_every_figure_is_inside(html: str) -> None:
    # All but the widths, which are the same in every layer.
    assert Outline(html).tags.count("svg") == len(FIGURES) - 1


def test_it_has_every_part_of_the_report(html: str) -> None:
    text = "".join(Outline(html).text)
    for title in (
        "Domains",
        "Zero-shot tasks",
        "Cost",
        "Rounds",
        "Layers",
        "Domain agreement",
        "Data",
        "Where this comes from",
        "Dense",
        "Pruned",
    ):
        assert title in text


def test_what_models_write_is_shown_as_it_is(html: str) -> None:
    assert "<script>alert(1)</script> & `more`" in "".join(Outline(html).text)
    assert "tiny <b>, pruned" in "".join(Outline(html).text)


def test_a_phone_and_a_dark_screen_are_provided_for(html: str) -> None:
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "prefers-color-scheme: dark" in html
    # No figure keeps ink or grid of its own: both follow the page.
    drawn = html[html.index("</style>") :]
    assert INK not in drawn
    assert GRID not in drawn
    assert "var(--ink)" in drawn
