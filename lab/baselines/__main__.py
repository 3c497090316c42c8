"""Tool: prune the dense model by other methods too, in one process, and score all results alike."""

import hashlib
import re
import time
from pathlib import Path
from typing import Any

import click
import torch

from lab.baselines.scoring import Scorer
from lab.baselines.table import cells, columns, csv_text, figure, markdown
from lab.baselines.table_rows import DENSE, Given, Row, all_rows
from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.errors import InputError
from secateurs.evaluation.units import duration
from secateurs.files.atomic import atomic
from stages.common.artifacts import read_sequences
from stages.common.calibration_text import read_text
from stages.common.console import stage, summary
from stages.common.paths import BASELINES as TABLES
from stages.common.paths import CALIBRATION, HELDOUT, MODEL
from stages.common.task_settings import asking_of, items_of
from stages.params.file import read_params
from stages.params.yaml_file import parse_yaml

NAMES = [row.key for row in all_rows([], {})]


@stage
@click.option("--share", "shares", type=float, multiple=True, help="Of the decoder.  [default: 0.2 and 0.4]")
@click.option("--row", "names", type=click.Choice(NAMES), multiple=True, help="All rows without it.")
@click.option(
    "--ours",
    metavar="TITLE:KEY=VALUE,...",
    multiple=True,
    help="A further row of this project, with other settings, such as `per layer:prune.widths=per_layer`.",
)
@click.option(
    "--beside",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="A checkpoint of another dense model with the same tokens, such as a smaller one of the family.",
)
@click.option(
    "--left-out",
    "without",
    default="",
    metavar="DOMAIN",
    help="Text that no method is given, as it is with a domain of weight 0.",
)
@click.option("--limit", type=int, help="Items of each task, instead of evaluate.limit; 0 for all.")
@click.option(
    "--minutes", type=float, help="Start no row after so many; what is missing is made by the next run."
)
@click.option(
    "--take",
    "taken",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="A table that another run made of the same, such as one beside this: its rows are taken over.",
)
@click.option(
    "--optipfair",
    type=click.Path(path_type=Path),
    metavar="PYTHON",
    help="A Python that has optipfair installed, for its row.",
)
@click.option("--again", is_flag=True, help="Make what the table already has, too.")
@click.option("--out", type=click.Path(path_type=Path), help=f"[default: {TABLES}/ and the model's name]")
def main(
    shares: tuple[float, ...],
    names: tuple[str, ...],
    ours: tuple[str, ...],
    beside: tuple[Path, ...],
    without: str,
    limit: int | None,
    minutes: float | None,
    taken: tuple[Path, ...],
    optipfair: Path | None,
    again: bool,
    out: Path | None,
) -> None:
    """Prune data/model by every method, score all results alike, and write the table as it grows.

    Reads data/model, data/corpus and data/benchmarks as the pipeline leaves them. Each row is printed and
    kept when it is done; a run that is stopped goes on where it was.
    """
    begun = time.monotonic()
    params = read_params()
    out = out or TABLES / params.model.name.lower()
    if without and without not in params.domains:
        raise InputError(f"--left-out: {without}: no such domain; there are {', '.join(params.domains)}")
    rows = all_rows(beside, dict(_setting(one) for one in ours))
    chosen = [row for row in rows if not names or row.key in {*names, DENSE} or ":" in row.key]
    given = Given(
        load_model(MODEL, params.compute.dtype),
        load_tokenizer(MODEL),
        params,
        read_text(CALIBRATION),
        without,
        optipfair,
    )
    tasks, asking = items_of(params.benchmarks), asking_of(params.evaluate, limit)
    settings = {
        "inputs": _digest(CALIBRATION, HELDOUT, *(path for path in tasks.values() if path is not None)),
        "model": _digest(MODEL / "config.json", *sorted(MODEL.glob("*.safetensors"))),
        "params": {
            name: params.model_dump(mode="json")[name]
            for name in ("capture", "mask", "prune", "rounds", "surgery", "mixture")
        },
        "limit": asking.limit,
        "chat_template": asking.chat_template,
        "left_out": without,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
    heldout = read_sequences(HELDOUT)
    left_out = [
        domain
        for domain in dict.fromkeys(one.domain for one in heldout)
        if domain == without or not params.mixture.get(domain)
    ]
    scorer = Scorer(given, heldout, tasks, asking, settings, out)
    for other in taken:
        scorer.take(other)
    wanted = [(row, 0.0) for row in chosen if not row.prunes]
    wanted += [(row, share) for share in shares or (0.2, 0.4) for row in chosen if row.prunes]
    missed = _make(scorer, wanted, left_out, again, None if minutes is None else begun + 60 * minutes)
    if scorer.records:
        _write(scorer, left_out)
        with atomic(out / "figure.png") as file:
            file.write_bytes(figure(scorer.records, left_out).png)
    failed = sum("failed" in one for one in scorer.records)
    rest = f"; {len(missed)} not started for want of time: {', '.join(missed)}" if missed else ""
    summary("baseline table", f"{len(scorer.records)} rows in {out}, {failed} of them failed{rest}")


def _make(
    scorer: Scorer, wanted: list[tuple[Row, float]], left_out: list[str], again: bool, until: float | None
) -> list[str]:
    """Make the rows that are missing; return the titles of those for which no time was left."""
    missed = []
    for row, share in wanted:
        if not again and scorer.known(row, share):
            continue
        if until is not None and time.monotonic() > until:
            missed.append(f"{row.title} at {share:.0%}")
            continue
        record = scorer.add(row, share)
        if row.key == DENSE:
            if "failed" in record:
                raise InputError(f"the dense model cannot be scored: {record['failed']}")
            click.echo("  ".join(columns(record, left_out)))
        dense = next(one for one in scorer.records if one["key"] == DENSE)
        spent = duration(record.get("scoring_seconds", 0.0))
        click.echo(f"{share:.0%}  {'  '.join(cells(record, dense, left_out))}  (scored in {spent})")
        _write(scorer, left_out)
    return missed


def _write(scorer: Scorer, left_out: list[str]) -> None:
    for name, text in (
        ("table.md", markdown(scorer.records, left_out)),
        ("table.csv", csv_text(scorer.records, left_out)),
    ):
        with atomic(scorer.out / name) as file:
            file.write_text(text, encoding="utf-8")


def _digest(*files: Path) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over files."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]


def _setting(text: str) -> tuple[str, dict[str, Any]]:
    title, mark, settings = text.partition(":")
    # At the commas before a key: a value may be a list.
    pairs = [pair.partition("=") for pair in re.split(r",(?=[\w.]+=)", settings)]
    if not mark or not all(key and equal for key, equal, _ in pairs):
        raise InputError(f"--ours: {text}: write TITLE:KEY=VALUE,KEY=VALUE")
    return title, {key.strip(): parse_yaml(f"--ours: {key}", value) for key, _, value in pairs}


if __name__ == "__main__":
    main()
