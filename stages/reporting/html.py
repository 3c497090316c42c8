"""The report as one HTML file that needs nothing else: no network, no script, no other file."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from stages.reporting.page_parts import Page
from stages.reporting.style import COLOURS, GRID, INK, ON_DARK

TEMPLATE = Path(__file__).with_name("report.html.j2")


def to_html(page: Page, drawings: Mapping[str, str]) -> str:
    """data/report.html. drawings: figure name -> its SVG (see figures.Picture)."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    environment.filters["address"] = _address
    figures = {name: _inline(svg) for name, svg in drawings.items()}
    colours = list(zip(COLOURS, ON_DARK, strict=True))
    return environment.get_template(TEMPLATE.name).render(page=page, figures=figures, colours=colours) + "\n"


def _code(text: str) -> Markup:
    """Escape a paragraph; what stands in `backticks` becomes a code element."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _address(text: str) -> str:
    """Text as an address that holds it whole."""
    return f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"


def _inline(svg: str) -> Markup:
    """An SVG file as an element of the page: as wide as its text, in the page's colours, light or dark."""
    start = svg.index("<svg")
    head, body = svg[start : svg.index(">", start) + 1], svg[svg.index(">", start) + 1 :]
    head = re.sub(r'width="[0-9.]+pt" height="[0-9.]+pt"', "", head)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    series = [(colour.lower(), f"var(--c{number})") for number, colour in enumerate(COLOURS) if colour != INK]
    for colour, name in ((INK, "var(--ink)"), (GRID, "var(--grid)"), *series):
        body = body.replace(colour, name)
    return Markup(head + body)
