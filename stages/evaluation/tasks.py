"""Zero-shot tasks on local items: lm-eval's stock task, prompt and metrics, with the items taken from a file.

A file has one JSON object a line: the task's own fields (`question`, or `goal`, `sentence`, `passage`),
`choices`, `labels` and the `answer`, one of the labels (BoolQ: only `answer`, yes or no). An adapter turns
an item into what the stock prompt of that task reads. To add a task, add its adapter to TASKS.
"""

import importlib.resources
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from stages.common.errors import InputError

Item = dict[str, Any]


@dataclass(frozen=True)
class LocalTask:
    """A stock task file of lm-eval, the adapter from our items, and settings that replace stock ones."""

    stock: str
    adapt: Callable[[Item], Item]
    overrides: Mapping[str, Any] = field(default_factory=dict)


def _answer(item: Item) -> int:
    answer: int = item["labels"].index(item["answer"])
    return answer


def _options(item: Item) -> Item:
    return {"text": item["choices"], "label": item["labels"]}


def _arc(item: Item) -> Item:
    return {"question": item["question"], "choices": _options(item), "answerKey": item["answer"]}


def _openbookqa(item: Item) -> Item:
    return {"question_stem": item["question"], "choices": _options(item), "answerKey": item["answer"]}


def _piqa(item: Item) -> Item:
    first, second = item["choices"]
    return {"goal": item["goal"], "sol1": first, "sol2": second, "label": _answer(item)}


def _boolq(item: Item) -> Item:
    label = ("no", "yes").index(item["answer"])
    return {"passage": item["passage"], "question": item["question"], "label": label}


def _winogrande(item: Item) -> Item:
    first, second = item["choices"]
    answer = str(_answer(item) + 1)
    return {"sentence": item["sentence"], "option1": first, "option2": second, "answer": answer}


def _hellaswag(item: Item) -> Item:
    # The stock prompt capitalises the unfinished last sentence. It also puts the activity's label in
    # front, which these items lack: one more reason why the task has a name of its own.
    told, stop, unfinished = item["question"].rpartition(". ")
    query = told + stop + unfinished.capitalize()
    return {"query": query, "choices": item["choices"], "label": str(_answer(item))}


def _truthfulqa(item: Item) -> Item:
    # The stock target is always the first choice; `labels` need not be as many as the choices here.
    right = _answer(item)
    choices = [item["choices"][right], *item["choices"][:right], *item["choices"][right + 1 :]]
    return {"question": item["question"], "mc1_targets": {"choices": choices}}


TASKS: dict[str, LocalTask] = {
    "arc_challenge": LocalTask("arc/arc_challenge.yaml", _arc),
    "openbookqa": LocalTask("openbookqa/openbookqa.yaml", _openbookqa),
    "piqa": LocalTask("piqa/piqa.yaml", _piqa),
    "boolq": LocalTask("super_glue/boolq/default.yaml", _boolq),
    "winogrande": LocalTask("winogrande/default.yaml", _winogrande),
    # Only the ActivityNet part of HellaSwag, so not comparable with published HellaSwag numbers.
    "hellaswag_activitynet": LocalTask("hellaswag/hellaswag.yaml", _hellaswag, {"process_docs": None}),
    "truthfulqa_mc1": LocalTask("truthfulqa/truthfulqa_mc1.yaml", _truthfulqa),
}


def local_task(name: str, items: Path) -> ConfigurableTask:
    """The stock task `name` over the items of a JSON-lines file.

    Raises InputError for a name that is not in TASKS and for an item that does not have the task's fields.
    """
    if name not in TASKS:
        raise InputError(
            f"params.yaml: benchmarks.{name}: unknown task; local items can be scored for "
            f"{', '.join(sorted(TASKS))}; any other task of lm-eval can be named with `source: stock`"
        )
    task = TASKS[name]
    documents = Dataset.from_list(_read_items(items, task.adapt))
    config = {
        **stock_config(task.stock),
        **task.overrides,
        "task": name,
        "training_split": None,
        "validation_split": None,
        "test_split": "items",
        "custom_dataset": lambda **_: {"items": documents},
    }
    config.pop("tag", None)
    # lm-eval warns that data sets may take arguments and that metrics have defaults.
    with errors_only():
        return ConfigurableTask(config=config)


@contextmanager
def errors_only() -> Iterator[None]:
    """Keep lm-eval's warnings back where they are known to be beside the point."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def stock_config(path: str) -> dict[str, Any]:
    """The settings of a task file that the installed lm-eval ships, `path` relative to its tasks."""
    with importlib.resources.as_file(importlib.resources.files("lm_eval.tasks").joinpath(path)) as file:
        config: dict[str, Any] = load_yaml(file)
    return config


def _read_items(path: Path, adapt: Callable[[Item], Item]) -> list[Item]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run the benchmarks stage") from None
    items = []
    for number, line in enumerate(lines, start=1):
        try:
            items.append(adapt(json.loads(line)))
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{path}: line {number}: {type(error).__name__}: {error}; expected an item as "
                "stages/evaluation/tasks.py describes"
            ) from None
    if len(items) < 2:
        raise InputError(f"{path}: {len(items)} items; a standard error needs at least 2")
    return items
