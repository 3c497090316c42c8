"""Stage: both evaluations and the rounds as metrics, pictures and a page."""

import click

from stages.common.artifacts import atomic, read_json, write_json
from stages.common.console import headline, stage, summary
from stages.common.params import read_params
from stages.common.paths import EVALUATIONS, METRICS, PLOTS, PRUNED, REPORT_HTML, REPORT_MARKDOWN, ROUNDS
from stages.evaluation.comparison import compare
from stages.evaluation.figures import draw_figures
from stages.evaluation.html import to_html
from stages.evaluation.markdown import to_markdown
from stages.evaluation.metrics import build_metrics, read_evidence
from stages.evaluation.page import COLUMNS, build_page, headline_rows
from stages.evaluation.revision import read_commit, read_workspace


@stage
@click.option("--show", is_flag=True, help="Only print the table of the last run.")
@click.option("--compare", "revision", metavar="REV", help="Only print, as Markdown, what changed since REV.")
@click.option(
    "--figures-at",
    metavar="URL",
    help="With --compare: where a commit's files can be seen, {commit} standing for its id. What is compared "
    "is then HEAD, not the workspace.",
)
def main(show: bool, revision: str | None, figures_at: str | None) -> None:
    """Write data/metrics.json, data/plots, data/report.md and .html; print the headline table."""
    if revision is not None:
        # A comment cannot embed a picture of the workspace, only link one that is committed.
        after = read_workspace() if figures_at is None else read_commit("HEAD", figures_at)
        click.echo(compare(read_commit(revision, figures_at), after), nl=False)
        return
    if not show:
        _write()
    headline([COLUMNS, *headline_rows(read_json(METRICS))])
    where = f"{REPORT_MARKDOWN} and {REPORT_HTML}; the pruned model is in {PRUNED}"
    if show:
        click.echo(f"see {where}")
    else:
        summary("report", where)


def _write() -> None:
    params = read_params()
    evidence = read_evidence(EVALUATIONS, ROUNDS / params.surgery.after / "history.json")
    metrics = build_metrics(evidence)
    pictures = draw_figures(evidence)
    page = build_page(params.model.name, evidence, metrics)
    write_json(METRICS, metrics)
    with atomic(PLOTS) as directory:
        directory.mkdir()
        for name, picture in pictures.items():
            (directory / f"{name}.png").write_bytes(picture.png)
    with atomic(REPORT_MARKDOWN) as file:
        file.write_text(to_markdown(page), encoding="utf-8")
    with atomic(REPORT_HTML) as file:
        file.write_text(to_html(page, {name: one.svg for name, one in pictures.items()}), encoding="utf-8")


if __name__ == "__main__":
    main()
