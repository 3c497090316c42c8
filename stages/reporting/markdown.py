"""The report as Markdown: what a reviewer reads in the repository."""

from collections.abc import Iterable, Sequence

from secateurs.evaluation.untrusted import words
from stages.reporting.page_parts import (
    HEADLINE,
    Block,
    Data,
    Figure,
    Headline,
    Page,
    Sample,
    Section,
    Table,
    Text,
    Verdict,
)


def to_markdown(page: Page) -> str:
    """data/report.md; figures are linked as plots/<name>.png."""
    parts = [f"# {words(page.title)}", *map(_block, page.opening)]
    parts += [f"## {to_section(section)}" for section in page.sections]
    return "\n\n".join(parts) + "\n"


def to_section(section: Section, figures: bool = True) -> str:
    """A section from its title on, with or without links to its figures."""
    blocks = [one for one in section.blocks if figures or not isinstance(one, Figure)]
    return "\n\n".join([section.title, *map(_block, blocks)])


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = True) -> str:
    """A table whose first column is text and whose others are numbers, or text too."""
    lines = [columns, ["---", *["---:" if numbers else "---"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _block(block: Block) -> str:
    match block:
        case Verdict(text, advice):
            return "\n".join([f"**{_cell(text)}**", "", *(f"- {_cell(line)}" for line in advice)])
        case Text(text):
            return text
        case Table(columns, rows, numbers):
            return markdown_table(columns, [[_cell(cell) for cell in row] for row in rows], numbers)
        case Headline(rows):
            return markdown_table(HEADLINE, rows)
        case Figure(name, title, note):
            return f"![{title}](plots/{name}.png)\n\n{note}"
        case Data(name):
            return f"- [figures/{name}.csv](figures/{name}.csv)"
        case Sample(prompt, dense, pruned):
            titled = (("Prompt", prompt), ("Dense", dense), ("Pruned", pruned))
            return "\n\n".join(f"{title}:\n\n{_verbatim(text)}" for title, text in titled)


def _cell(text: str) -> str:
    """What a setting says stays text: nothing in it ends the cell, or is a link, HTML or a mention."""
    escaped = "".join(f"\\{mark}" if mark in "\\`*[]<|~&" else mark for mark in text)
    shown = "".join(mark if mark.isprintable() else " " for mark in escaped)
    return shown.replace("@", "@\u200b").replace("://", ":\u200b//")


def _verbatim(text: str) -> str:
    # An indented block shows the text as it is, whatever marks or fences it holds.
    return "\n".join(f"    {line}" for line in text.strip("\n").splitlines())
