"""What the report says of a run, section by section."""

from secateurs.evaluation.verdict import advice, verdict
from secateurs.kinds.registry import units
from stages.reporting import sections
from stages.reporting.facts import facts
from stages.reporting.figure_data import figure_tables
from stages.reporting.metrics import Evidence, Metrics
from stages.reporting.page_parts import Headline, Page, Section, Text, Verdict


def build_page(
    model_name: str, evidence: Evidence, metrics: Metrics, origin: Section, quantised: str | None
) -> Page:
    """Everything that the report says of a run.

    origin: where it comes from (provenance.provenance); quantised: what the dense weights were before.
    """
    known = facts(metrics, quantised)
    sparsity, rounds = metrics["pruned"]["sparsity"], len(evidence.rounds)
    kept = evidence.rounds[-1]["kept"]
    # Where only the vocabulary is cut, no layer changes and nothing is ranked.
    ranked = f", {units(kept)} ranked by `{metrics['calibration']['metric']}`" if kept else ""
    opening = Text(
        f"{sparsity['decoder']:.1%} of the decoder layers' parameters removed ({sparsity['all']:.1%} of all "
        f"parameters), in {rounds} round{'s' if rounds > 1 else ''}{ranked}. The "
        "pruned model is in `data/pruned`."
    )
    return Page(
        f"{model_name}, pruned",
        (Verdict(verdict(known), advice(known)), Headline(sections.headline_rows(metrics)), opening),
        (
            sections.domains(evidence, metrics),
            *sections.zero_shot(evidence),
            sections.cost(metrics),
            sections.rounds(evidence),
            *([sections.layers(evidence), sections.agreement(evidence)] if kept else []),
            sections.continuations(evidence),
            sections.data(figure_tables(evidence)),
            origin,
        ),
    )
