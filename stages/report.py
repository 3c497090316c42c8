"""Stage: both evaluations and the rounds as metrics and pictures."""

import click

from secateurs.checkpoints.origin import quantisation
from secateurs.evaluation.verdict import advice, verdict
from secateurs.files.atomic import atomic
from secateurs.files.json_file import write_json
from stages.common.artifacts import read_json
from stages.common.console import headline, stage, summary
from stages.common.locks import hold
from stages.common.paths import (
    EVALUATIONS,
    FIGURE_DATA,
    HEALING,
    METRICS,
    PLOTS,
    PRUNED,
    REPORT_HTML,
    REPORT_MARKDOWN,
    ROUNDS,
)
from stages.params.file import read_params
from stages.reporting.comparison import compare
from stages.reporting.facts import facts
from stages.reporting.figure_data import figure_tables
from stages.reporting.figures import draw_figures
from stages.reporting.metrics import build_metrics, read_evidence
from stages.reporting.page_parts import HEADLINE
from stages.reporting.revision import read_commit, read_workspace
from stages.reporting.sections import headline_rows
from stages.reporting.speed import read_timings, timing_notes, timing_rows


@stage
@click.option(
    "--show",
    is_flag=True,
    help="Only print what came of the last run, with its times where they were taken here.",
)
@click.option("--compare", "revision", metavar="REV", help="Only print, as Markdown, what changed since REV.")
@click.option(
    "--figures-at",
    metavar="URL",
    help="With --compare: where a commit's files can be seen, {commit} standing for its id. What is compared "
    "is then HEAD, not the workspace.",
)
def main(show: bool, revision: str | None, figures_at: str | None) -> None:
    """Write data/metrics.json and data/plots; print the headline table."""
    if revision is not None:
        # A comment cannot embed a picture of the workspace, only link one that is committed.
        after = read_workspace() if figures_at is None else read_commit("HEAD", figures_at)
        click.echo(compare(read_commit(revision, figures_at), after), nl=False)
        return
    if not show:
        _write()
    metrics = read_json(METRICS)
    timings = read_timings("pruned") if show else None
    headline([HEADLINE, *headline_rows(metrics), *(timing_rows(timings) if timings else [])])
    if show:
        known = facts(metrics, quantisation(read_params().model), timings=timings)
        lines = [verdict(known), *(f"- {line}" for line in advice(known)), *timing_notes(timings)]
        click.echo("\n".join(lines))
        click.echo(f"see {REPORT_MARKDOWN} and {REPORT_HTML}; the pruned model is in {PRUNED}")
    else:
        summary("report", f"{METRICS} and {PLOTS}")


def _write() -> None:
    params = read_params()
    hold(METRICS)
    evidence = read_evidence(EVALUATIONS, ROUNDS / params.surgery.after / "history.json", HEALING)
    pictures = draw_figures(evidence)
    write_json(METRICS, build_metrics(evidence))
    for name, table in figure_tables(evidence).items():
        with atomic(FIGURE_DATA / f"{name}.csv") as file:
            file.write_text(table, encoding="utf-8")
    with atomic(PLOTS) as directory:
        directory.mkdir()
        for name, picture in pictures.items():
            (directory / f"{name}.png").write_bytes(picture.png)


if __name__ == "__main__":
    main()
