"""Put both evaluations and the rounds into metrics, pictures and a page."""

from pathlib import Path

import click

from stages.artifacts import atomic, read_json, write_json
from stages.console import stage, summary
from stages.evaluation.figures import draw_figures
from stages.evaluation.metrics import build_metrics, read_evidence
from stages.evaluation.page import COLUMNS, headline_rows, render_page
from stages.params import read_params

EVALUATIONS = Path("data/evaluations")
ROUNDS = Path("data/rounds")
METRICS = Path("data/metrics.json")
PLOTS = Path("data/plots")
PAGE = Path("data/report.md")
PRUNED = Path("data/pruned")


@stage
@click.option("--show", is_flag=True, help="Only print the table of the last run.")
def main(show: bool) -> None:
    """Write data/metrics.json, data/plots and data/report.md; print the headline table."""
    if not show:
        _write()
    metrics = read_json(METRICS)
    for row in [COLUMNS, *headline_rows(metrics)]:
        click.echo(f"{row[0]:<28}{row[1]:>18}{row[2]:>18}{row[3]:>9}")
    summary("report", f"{PAGE}; the pruned model is in {PRUNED}")


def _write() -> None:
    params = read_params()
    evidence = read_evidence(EVALUATIONS, ROUNDS / params.surgery.after / "history.json")
    metrics = build_metrics(evidence)
    write_json(METRICS, metrics)
    with atomic(PLOTS) as directory:
        directory.mkdir()
        draw_figures(evidence, directory)
    with atomic(PAGE) as page:
        page.write_text(render_page(params.model.name, evidence, metrics), encoding="utf-8")


if __name__ == "__main__":
    main()
