"""Zero-shot accuracy on every item of the tasks: a few dozen of them cannot tell methods apart."""

from pathlib import Path
from typing import Any

from lab.baselines.catalogue import BASELINES
from lab.baselines.records import DENSE, Record
from lab.baselines.runs import Measure
from lab.baselines.shared import Shared
from lab.baselines.table import shown_accuracy, shown_ratio
from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.devices.placement import place
from secateurs.errors import InputError
from secateurs.evaluation.perplexity import geometric_mean, score_domains
from secateurs.evaluation.scores import headline
from secateurs.evaluation.zero_shot import score_tasks
from stages.common.asking import asking_of
from stages.common.paths import BASELINES as TABLES
from stages.reporting.markdown import markdown_table
from stages.reporting.metrics import mean_accuracy

FILE = TABLES / "all_items.json"
ALL = 0
NOTE = (
    "Zero-shot accuracy by lm-eval's stock prompts on all {items:,} items, ± its standard error; first "
    "the mean over the tasks. Perplexity: geometric mean over the held-out domains."
)
COLUMNS = ("method", "perplexity / dense", "zero-shot", "change")


def all_items(shared: Shared) -> Measure:
    """Accuracy by task, on all of its items, and held-out perplexity. Raises InputError without tasks."""
    if not shared.tasks:
        raise InputError("params.yaml: benchmarks: empty, so there are no items to score")
    evaluate = shared.params.evaluate

    def score(directory: Path, without: str) -> Record:
        model = load_model(directory, shared.params.compute.dtype)
        model, tokenizer = place(model, shared.params.compute.device), load_tokenizer(directory)
        domains = score_domains(model, tokenizer, shared.heldout, evaluate.batch_size)
        tasks = score_tasks(model, tokenizer, shared.tasks, asking_of(evaluate, ALL))
        return {
            "perplexity": geometric_mean(domains),
            "accuracy": {task: score.record() for task, score in tasks.items()},
        }

    def settings(baseline: str) -> dict[str, Any]:
        whole = shared.settings(baseline)
        return whole | {"evaluate": whole["evaluate"] | {"limit": ALL}}

    return Measure(FILE, score, settings, markdown)


def markdown(records: list[Record]) -> str:
    """data/baselines/all_items.md: the dense model, then a table for each share."""
    (dense,) = [one for one in records if one["baseline"] == DENSE]
    tasks = list(dense["accuracy"])
    items = sum(one["items"] for one in dense["accuracy"].values())
    columns = (*COLUMNS, *tasks)
    parts = ["# Other methods, by all zero-shot items", NOTE.format(items=items)]
    parts.append(markdown_table(columns, [_row("dense", dense, dense)]))
    for share in dict.fromkeys(one["share"] for one in records if one is not dense):
        rows = [
            _row(BASELINES[one["baseline"]].title, one, dense) for one in records if one["share"] == share
        ]
        parts += [f"## {share:.0%} of the decoder's parameters", markdown_table(columns, rows)]
    return "\n\n".join(parts) + "\n"


def _row(title: str, record: Record, dense: Record) -> tuple[str, ...]:
    ratio = record["perplexity"] / dense["perplexity"]
    mean, before = mean_accuracy(record), mean_accuracy(dense)
    # all_items() refuses to run without tasks.
    assert mean is not None
    assert before is not None
    tasks = [shown_accuracy(*headline(one)) for one in record["accuracy"].values()]
    return (title, shown_ratio(ratio), shown_accuracy(*mean), f"{mean[0] - before[0]:+.3f}", *tasks)
