"""What `secateurs prune` measures of each model, and shows side by side."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.devices.placement import SHARDED, copied, passing_through, place, resolve_device
from secateurs.evaluation.asking import Asking
from secateurs.evaluation.cost import macs_per_token
from secateurs.evaluation.paired import Pair, mean_of, paired
from secateurs.evaluation.perplexity import DomainScore, geometric_mean, score_domains
from secateurs.evaluation.scores import averaged, headline_metric
from secateurs.evaluation.verdict import Facts
from secateurs.evaluation.zero_shot import Score, score_tasks
from secateurs.text.corpus import Split


@dataclass(frozen=True)
class Judges:
    """What models are judged by: held-out text cut by the dense tokenizer, and items (JSON lines) by task."""

    heldout: Split
    tokenizer: PreTrainedTokenizerBase
    items: Mapping[str, bytes]
    stock: frozenset[str]
    asking: Asking
    device: str


@dataclass(frozen=True)
class Measured:
    """A model's size, multiply-adds a token, held-out scores by domain and answers by task."""

    parameters: int
    weight_bytes: int
    macs_per_token: int
    perplexity: dict[str, DomainScore]
    tasks: dict[str, Score]


def measured(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, judges: Judges) -> Measured:
    """What there is to measure of a model in host memory, which stays there."""
    rows = judges.heldout.sequences
    with passing_through(model, resolve_device(judges.device)):
        perplexity = score_domains(model, tokenizer, rows, len(rows), judges.tokenizer)
    return Measured(
        model.num_parameters(),
        sum(one.numel() * one.element_size() for one in model.parameters()),
        macs_per_token(model),
        perplexity,
        _answers(model, tokenizer, judges) if judges.items else {},
    )


def _answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, judges: Judges) -> dict[str, Score]:
    # Answers take many forward passes, so that the weights go to the device at once.
    here = judges.device != SHARDED and resolve_device(judges.device).type == "cpu"
    placed = model if here else place(copied(model, judges.device), judges.device)
    with TemporaryDirectory(prefix="secateurs-items-") as folder:
        files: dict[str, Path | None] = dict.fromkeys(judges.items)
        for task in files.keys() - judges.stock:
            files[task] = file = Path(folder, f"{task}.jsonl")
            file.write_bytes(judges.items[task])
        return score_tasks(placed, tokenizer, files, judges.asking)


def facts_of(dense: Measured, small: Measured, recovered: bool) -> Facts:
    """What a verdict on a model beside its dense one is of."""
    ratios = {
        domain: small.perplexity[domain].perplexity / score.perplexity
        for domain, score in dense.perplexity.items()
    }
    worst = max(ratios, key=lambda domain: ratios[domain])
    together = averaged(_records(dense))
    return Facts(
        parameters=(dense.parameters, small.parameters),
        weight_bytes=(dense.weight_bytes, small.weight_bytes),
        macs_per_token=(dense.macs_per_token, small.macs_per_token),
        perplexity=geometric_mean(small.perplexity) / geometric_mean(dense.perplexity),
        worst=(worst, ratios[worst]),
        accuracy=mean_of([difference(dense, small, task) for task in together]) if together else None,
        recovered=recovered,
    )


def difference(dense: Measured, small: Measured, task: str) -> Pair:
    """By how much a task's headline metric changed, on the same items, and the standard error of that."""
    metric = headline_metric(dense.tasks[task].record())
    before, after = ([answer.scores[metric] for answer in one.tasks[task].answers] for one in (dense, small))
    return paired(before, after)


def _records(model: Measured) -> dict[str, dict[str, float | int]]:
    return {task: score.record() for task, score in model.tasks.items()}


def table(models: Mapping[str, Measured]) -> list[str]:
    """The models beside each other, in Markdown: the first is the dense one, of which the others differ."""
    head = ["held-out text and tasks", *models]
    rows = [head, ["---", *["---:"] * len(models)], *_rows(list(models.values()))]
    return [f"| {' | '.join(row)} |" for row in rows]


def _rows(models: list[Measured]) -> Iterator[list[str]]:
    dense, *others = models
    for domain, held_out in dense.perplexity.items():
        before = held_out.perplexity
        after = [one.perplexity[domain].perplexity for one in others]
        yield [
            f"{domain}, perplexity",
            f"{before:.2f}",
            *(f"{value:.2f} ({value / before:.3f} times)" for value in after),
        ]
    for task, score in dense.tasks.items():
        metric = headline_metric(score.record())
        cells = [f"{score.mean(metric)[0]:.3f}"]
        for one in others:
            change, error = difference(dense, one, task)
            cells.append(f"{one.tasks[task].mean(metric)[0]:.3f} ({change:+.3f} ± {error:.3f})")
        yield [f"{task}, {metric} of {score.items:,} items", *cells]
