"""Tool: write docs/results.md, and the figures of README.md, from what data/ has."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from lab.shipping import Rows, read_rows, short_table, whole_table
from lab.shipping_picture import draw_kept
from secateurs.checkpoints.origin import quantisation
from secateurs.errors import InputError
from secateurs.evaluation.verdict import verdict
from secateurs.files.atomic import atomic
from stages.common.artifacts import read_json
from stages.common.console import stage, summary
from stages.common.paths import BASELINES, BENCH, METRICS, STUDY
from stages.params.file import read_params
from stages.reporting.facts import facts
from stages.reporting.markdown import markdown_table
from stages.reporting.page_parts import HEADLINE
from stages.reporting.sections import headline_rows
from stages.reporting.spent import HEAD, spent_rows

PAGE, README = Path("docs/results.md"), Path("README.md")
# What README compares, and the row of the other tables that is this project's.
SHIPPED, OURS = BASELINES / "qwen2.5-coder-1.5b/rows.json", "Secateurs, default settings"
CHOICES = STUDY / "real-models-choices.csv"
# The picture beside a file of rows that have kept shares.
KEPT = "kept.png"
# Where README has a generated part.
MARK = "<!-- {name}: written by python -m lab.results -->"

Row = dict[str, str]


@stage
def main() -> None:
    """Write docs/results.md and README's figures, from data/metrics.json, data/baselines and data/study."""
    for path in sorted(BASELINES.glob("*/rows.json")):
        if _has_shares(rows := read_rows(path)):
            with atomic(path.with_name(KEPT)) as file:
                file.write_bytes(draw_kept(rows).png)
    for path, text in ((PAGE, page()), (README, readme(README.read_text(encoding="utf-8")))):
        with atomic(path) as file:
            file.write_text(text, encoding="utf-8")
    summary("results", f"{PAGE} and the figures of {README}")


def page() -> str:
    """docs/results.md."""
    parts = [
        "# Results",
        "`python -m lab.results` writes this page from the files that it links; no figure was typed by hand.",
        "## The default run",
        f"{read_params().model.name}, by `make repro` on 2 cores; more of it in "
        "[data/report.md](../data/report.md).",
        markdown_table(HEADLINE, default_rows()),
        f"**{default_verdict()}**",
        *(part for path in sorted(BENCH.glob("run-*.json")) for part in _times(path)),
    ]
    for path in sorted(BASELINES.glob("*/rows.json")):
        parts += list(_shipped(path))
    for folder in sorted(file.parent.name for file in BASELINES.glob("*/table.csv")):
        parts += list(_compared(folder))
    parts += [*_choices(), "## The settings, one at a time", *_studies()]
    return "\n\n".join(parts) + "\n"


def readme(text: str) -> str:
    """README.md with its generated parts as data/ has them."""
    for name, body in (("table", shipped()), ("run", default_run())):
        mark = MARK.format(name=name)
        parts = text.split(f"{mark}\n")
        if len(parts) != 3:
            raise InputError(f"{README}: {len(parts) - 1} lines {mark}; there must be two, around its part")
        before, _, after = parts
        text = f"{before}{mark}\n{body}\n{mark}\n{after}"
    return text


def default_rows() -> Sequence[Sequence[str]]:
    """The table of the default run."""
    return headline_rows(read_json(METRICS))


def default_verdict() -> str:
    """What the default run is worth, in one sentence."""
    return verdict(facts(read_json(METRICS), quantisation(read_params().model)))


def default_run() -> str:
    """The end of what `make repro` prints, as a block of code."""
    lines = [
        f"{name:<28}{dense:>17}{other:>17}   {apart}".rstrip() for name, dense, other, apart in _printed()
    ]
    return "\n".join(["```", *lines, default_verdict(), "```"])


def _printed() -> Iterator[Sequence[str]]:
    yield HEADLINE
    yield from default_rows()


def shipped() -> str:
    """README's table: what somebody who ships a model compares."""
    return short_table(read_rows(SHIPPED))


def table(folder: str) -> list[Row]:
    """The rows of a table of data/baselines."""
    return _rows(BASELINES / folder / "table.csv")


def runner_up(rows: Sequence[Row]) -> str:
    """The other method with the highest zero-shot accuracy, and of several the one that solves most of GSM8K.

    Both are means over the shares that were pruned.
    """
    pruned = [row for row in rows if row["share"] != "0" and row["method"] != OURS]
    return max(
        dict.fromkeys(row["method"] for row in pruned),
        key=lambda name: tuple(
            mean(float(_plain(row[column])) for row in pruned if row["method"] == name)
            for column in ("zero-shot", "gsm8k")
        ),
    )


def _times(path: Path) -> Iterator[str]:
    found = read_json(path)
    yield f"### Where the time of a run goes: {found['model']}"
    yield (
        f"Seconds of each stage on {found['processors']} cores, device {found['device']} "
        f"(`make times`; [as JSON](../{path})). DVC is what it did before a stage; processor, what all cores "
        "worked."
    )
    notes = [{"stage": name, "seconds": seconds} for name, seconds in found["stages"].items()]
    yield markdown_table(HEAD, spent_rows(notes))


def _shipped(path: Path) -> Iterator[str]:
    rows = read_rows(path)
    yield f"## What can be shipped: {rows.model}"
    yield (
        "GB of weights; tokens a second read (prefill) and written (decode); perplexity on held-out text, "
        "relative to the dense model; accuracy by task, and the share of the dense model's that is kept, "
        f"over choices together and each task of written answers ([as JSON](../{path}))."
    )
    yield whole_table(rows)
    if _has_shares(rows):
        yield f"![Shares kept against size and speed](../{path.with_name(KEPT)})"


def _has_shares(found: Rows) -> bool:
    return any(row.worst_kept is not None for row in found.rows)


def _compared(folder: str) -> Iterator[str]:
    rows = table(folder)
    unread = next(column for column in rows[0] if column.startswith("left out: "))
    domains = unread.removeprefix("left out: ").replace("unseen_", "").split(", ")
    yield f"## Against other methods: {folder}"
    yield (
        "Nothing was trained. Perplexity is relative to the dense model, over held-out text of the domains "
        f"that were read, and over {len(domains)} that no method read ({', '.join(domains)}). Zero-shot is "
        "the mean accuracy of the multiple-choice tasks; ± is one standard error. The runner-up, by "
        f"zero-shot and then GSM8K, is {runner_up(rows)}. Secateurs ran with that day's preset of 1.5B."
    )
    columns = ("perplexity / dense", unread, "zero-shot", "gsm8k")
    head = ("method", "decoder removed", "GB", "perplexity", "left out", "zero-shot", "GSM8K")
    yield markdown_table(
        head, [(_title(row), row["removed"], row["GB"], *(row[column] for column in columns)) for row in rows]
    )
    path = f"../data/baselines/{folder}"
    yield (
        f"[Every task, seconds and memory]({path}/table.md), [as CSV]({path}/table.csv), "
        "[what to know about the methods](../lab/notes/2026-12-01-baselines.md)."
    )


def _choices() -> Iterator[str]:
    yield "## Rounds, dialogues, heads and recovery, on 1.5B"
    yield (
        "Qwen2.5-Coder-1.5B-Instruct with that day's preset (`default settings`), and with one change. "
        "Left-out text is of five domains, and with licences, whose perplexity pruning triples, of the six "
        "that the tables above have. Points are relative to the dense model, on the same items, ± one "
        f"standard error ([all columns](../{CHOICES}))."
    )
    head = (
        "change",
        "decoder",
        "perplexity",
        "left out",
        "with licences",
        "zero-shot, points",
        "GSM8K, points",
    )
    rows = [
        (
            f"{row['method']}, {float(row['share']):.0%}",
            f"-{float(row['removed']):.1%}",
            row["held_out"],
            row["left_out"],
            row["left_out_with_licences"],
            f"{float(row['zero_shot_change']):+.1f} ± {float(row['zero_shot_change_stderr']):.1f}",
            f"{float(row['gsm8k_change']):+.1f} ± {float(row['gsm8k_change_stderr']):.1f}",
        )
        for row in _rows(CHOICES)
    ]
    yield markdown_table(head, rows)


def _studies() -> Iterator[str]:
    """What each study is of, and its first table: how far the result moves with the text that is drawn."""
    for path in sorted(STUDY.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        title, about, *_ = text.split("\n\n")
        first = re.search(r"^## (.+?)\n\n(\|.*?)\n\n", text, re.MULTILINE | re.DOTALL)
        if first is None:
            raise InputError(f"{path}: no table under a heading; run python -m lab.study.__main__ page again")
        yield f"### {title.removeprefix('# ')}"
        yield f"{about} [All its questions](../{path}). {first[1]}"
        yield first[2]


def _rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _plain(cell: str) -> str:
    """An accuracy without its error."""
    return cell.partition(" ")[0]


def _title(row: Row) -> str:
    return "**Secateurs**" if row["method"] == OURS else row["method"]


if __name__ == "__main__":
    main()
