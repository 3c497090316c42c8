"""Zero-shot accuracy through lm-eval's stock prompts, on local items or on stock tasks from the hub."""

import logging
import math
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval.api.task
from accelerate.utils import find_executable_batch_size
from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.common.errors import InputError
from stages.evaluation.tasks import errors_only, local_task


@dataclass(frozen=True)
class Accuracy:
    """Share of items answered right, with its standard error.

    `acc_norm` compares log-likelihoods per character of a choice; None where the stock task has none.
    """

    acc: float
    acc_stderr: float
    acc_norm: float | None
    acc_norm_stderr: float | None
    items: int


class _Model(HFLM):  # type: ignore[misc]
    """lm-eval's wrapper of a loaded model, whose progress bar is silent where stderr is not a terminal."""

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        quiet = disable_tqdm or not sys.stderr.isatty()
        results: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=quiet)
        if any(math.isnan(likelihood) for likelihood, _ in results):
            raise InputError(
                "zero-shot tasks: the model gives no number as a likelihood; with compute.dtype: float16 use "
                "bfloat16 or float32, otherwise the checkpoint is broken"
            )
        return results


def score_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Mapping[str, Path | None],
    limit: int,
    seed: int,
    batch_size: int,
) -> dict[str, Accuracy]:
    """Accuracy per task, in the order given.

    benchmarks: task -> its file of items, or None for a task as lm-eval ships it.
    limit: items per task, drawn with `seed`, the same ones for every model; 0 takes all.
    batch_size: choices at a time to begin with; halved whenever memory runs out.
    Raises InputError for a task that is unknown or is not scored by accuracy, and for a model whose
    likelihoods are not numbers.
    """
    if not benchmarks:
        return {}
    if limit == 1:
        raise InputError("params.yaml: evaluate.limit: 1: a standard error needs at least 2 (0: all items)")
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    # Reading the index of all stock tasks takes seconds; local tasks do without.
    manager = TaskManager(include_defaults=None in benchmarks.values())
    loaded = manager.load([_task(name, path, manager) for name, path in benchmarks.items()])
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    samples = {name: _draw(len(task.eval_docs), limit, seed) for name, task in loaded["tasks"].items()}

    def run(batch_size: int) -> Mapping[str, Any]:
        with errors_only():  # It warns that a loaded model makes arguments void that are not given here.
            wrapped = _Model(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        with _no_bar_for_prompts():
            results: Mapping[str, Any] = evaluate(
                lm=wrapped, task_dict=loaded, samples=samples, log_samples=False
            )
        return results

    results = find_executable_batch_size(run, starting_batch_size=batch_size)()["results"]
    return {name: _accuracy(name, results[name]) for name in benchmarks}


def _task(name: str, path: Path | None, manager: TaskManager) -> Task | Group:
    if path is not None:
        return local_task(name, path)
    if name not in manager.all_subtasks and name not in manager.all_groups:
        raise InputError(
            f"params.yaml: benchmarks.{name}: not a task or group of the installed lm-eval; "
            "`lm-eval ls tasks` lists them"
        )
    loaded = manager.load([name])
    return loaded["groups"].get(name) or loaded["tasks"][name]


def _draw(available: int, limit: int, seed: int) -> list[int]:
    if limit == 0 or limit >= available:
        return list(range(available))
    return sorted(random.Random(seed).sample(range(available), limit))


def _accuracy(name: str, results: Mapping[str, Any]) -> Accuracy:
    if "acc,none" not in results:
        measured = ", ".join(sorted(key for key in results if key.endswith(",none")))
        raise InputError(
            f"params.yaml: benchmarks.{name}: not scored by accuracy but by {measured}; "
            "choose a multiple-choice task"
        )
    return Accuracy(
        acc=results["acc,none"],
        acc_stderr=results["acc_stderr,none"],
        acc_norm=results.get("acc_norm,none"),
        acc_norm_stderr=results.get("acc_norm_stderr,none"),
        items=results["sample_len"],
    )


@contextmanager
def _no_bar_for_prompts() -> Iterator[None]:
    # lm-eval draws a bar per task while it builds prompts (an instant) and has no switch for it.
    bar = lm_eval.api.task.tqdm
    lm_eval.api.task.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        lm_eval.api.task.tqdm = bar
