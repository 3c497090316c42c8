"""The model card of a checkpoint once it has been evaluated: how good it is, for readers and for the hub."""

from collections.abc import Iterable, Mapping

from huggingface_hub import EvalResult, ModelCardData

from secateurs.evaluation.scores import headline, headline_metric
from secateurs.evaluation.verdict import Facts, advice, verdict
from stages.reporting.markdown import to_section
from stages.reporting.metrics import Evidence, Metrics
from stages.reporting.page_parts import Headline, Section, Verdict
from stages.reporting.sections import cost, domains, headline_rows, zero_shot

TASK = "text-generation"


def evaluated_card(
    card: str,
    data: ModelCardData,
    evidence: Evidence,
    metrics: Metrics,
    known: Facts,
) -> str:
    """Markdown with the hub's front matter: `card` with what evaluation found, before how it was made.

    card: what the checkpoint came with (model_card or recovered_card), whose sizes the results have too.
    data: the front matter. known: what the verdict is made of.
    """
    _, _, body = card.partition("\n# ")
    opening, *sections = body.split("\n## ")
    first = Section("In short", (Verdict(verdict(known), advice(known)), Headline(headline_rows(metrics))))
    results = [first, domains(evidence, metrics), *zero_shot(evidence), cost(metrics)]
    parts = [f"{to_section(one, figures=False)}\n" for one in results]
    parts += [one for one in sections if not one.startswith("Size\n")]
    return "\n## ".join([f"---\n{data.to_yaml()}\n---\n\n# {opening}", *parts])


def front_matter(
    name: str,
    licence: str,
    base_model: str | None,
    data_sets: Mapping[str, str],
    evidence: Evidence,
) -> ModelCardData:
    """The hub's metadata, results in its form (`model-index`).

    name: of the pruned model; base_model: the dense model's id on the hub; data_sets: where each domain's
    text is from.
    """
    return ModelCardData(
        license=licence,
        base_model=base_model,
        library_name="transformers",
        pipeline_tag=TASK,
        tags=["pruned", "secateurs"],
        model_name=name,
        eval_results=list(_results(data_sets, evidence)),
    )


def _results(data_sets: Mapping[str, str], evidence: Evidence) -> Iterable[EvalResult]:
    for domain, score in evidence.pruned["perplexity"]["domains"].items():
        yield EvalResult(
            task_type=TASK,
            dataset_type=data_sets[domain],
            dataset_name=f"{domain}, held-out text",
            # Readers of the hub merge what agrees in type, config and split, whatever its name.
            dataset_config=domain,
            metric_type="perplexity",
            metric_name=f"perplexity per token of {score['tokens']:,}",
            metric_value=round(score["perplexity"], 3),
        )
    for task, accuracy in evidence.pruned["accuracy"].items():
        value, error = headline(accuracy)
        kind = headline_metric(accuracy)
        yield EvalResult(
            task_type=TASK,
            dataset_type=task,
            dataset_name=task,
            metric_type="accuracy",
            metric_name=f"{kind}, {accuracy['items']} items, standard error {error:.3f}",
            metric_value=round(value, 4),
        )
