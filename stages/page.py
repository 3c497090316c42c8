"""Stage: the report of a run as pages to read, as Markdown and as one HTML file."""

from secateurs.checkpoints.origin import origin_of, quantisation
from secateurs.files.atomic import atomic
from stages.common.artifacts import read_json
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import EVALUATIONS, HEALING, METRICS, PRUNED, REPORT_HTML, REPORT_MARKDOWN, ROUNDS
from stages.params.file import read_params
from stages.reporting.figures import draw_figures
from stages.reporting.html import to_html
from stages.reporting.markdown import to_markdown
from stages.reporting.metrics import read_evidence
from stages.reporting.provenance import provenance
from stages.reporting.run_page import build_page


@stage
def main() -> None:
    """Write data/report.md and data/report.html."""
    params = read_params()
    hold(REPORT_MARKDOWN)
    evidence = read_evidence(EVALUATIONS, ROUNDS / params.surgery.after / "history.json", HEALING)
    origin = provenance(origin_of(params.model), evidence)
    quantised = quantisation(params.model)
    page = build_page(params.model.name, evidence, read_json(METRICS), origin, quantised)
    drawings = {name: one.svg for name, one in draw_figures(evidence).items()}
    with atomic(REPORT_MARKDOWN) as file:
        file.write_text(to_markdown(page), encoding="utf-8")
    with atomic(REPORT_HTML) as file:
        file.write_text(to_html(page, drawings), encoding="utf-8")
    summary("page", f"{REPORT_MARKDOWN} and {REPORT_HTML}; the pruned model is in {PRUNED}")


if __name__ == "__main__":
    main()
