"""What a page is made of, before it is set as Markdown or HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

Row = tuple[str, ...]
COLUMNS = ("", "dense", "pruned", "ratio")
HEADLINE = ("", "dense", "pruned", "change")


@dataclass(frozen=True)
class Verdict:
    """What came of a run, in a sentence, and what to do about it."""

    text: str
    advice: Sequence[str]


@dataclass(frozen=True)
class Text:
    """A paragraph; `backticks` mark code."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of text under the names of their columns; the first column names the row.

    numbers: what the other columns hold, which is set flush right; words are set flush left.
    """

    columns: Row
    rows: Sequence[Row]
    numbers: bool = True


@dataclass(frozen=True)
class Headline:
    """The few numbers that matter most: name, dense, pruned, how far apart they are."""

    rows: Sequence[Row]


@dataclass(frozen=True)
class Figure:
    """A key of FIGURES, its title, which is in the picture too, and what there is to see in it."""

    name: str
    title: str
    note: str


@dataclass(frozen=True)
class Data:
    """A table that a figure was drawn from: its name, and its content as CSV."""

    name: str
    csv: str


@dataclass(frozen=True)
class Sample:
    """A prompt and how both models go on, as they wrote it."""

    prompt: str
    dense: str
    pruned: str


Block = Verdict | Text | Table | Headline | Figure | Sample | Data


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """The whole report: `opening` stands before the first section."""

    title: str
    opening: Sequence[Block]
    sections: Sequence[Section]
