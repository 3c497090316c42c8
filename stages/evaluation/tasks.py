"""Zero-shot tasks on local items: lm-eval's stock task, prompt and metrics, with the items taken from a file.

What a file of items has, and how it becomes what a stock prompt reads, is in text/task_items.py.
"""

import importlib.resources
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from stages.common.errors import InputError
from stages.text.benchmark_items import adapted_items
from stages.text.task_items import check_task


@dataclass(frozen=True)
class LocalTask:
    """A stock task file of lm-eval, and settings that replace stock ones."""

    stock: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


TASKS: dict[str, LocalTask] = {
    "arc_challenge": LocalTask("arc/arc_challenge.yaml"),
    "openbookqa": LocalTask("openbookqa/openbookqa.yaml"),
    "piqa": LocalTask("piqa/piqa.yaml"),
    "boolq": LocalTask("super_glue/boolq/default.yaml"),
    "winogrande": LocalTask("winogrande/default.yaml"),
    # Only the ActivityNet part of HellaSwag, so not comparable with published HellaSwag numbers.
    "hellaswag_activitynet": LocalTask("hellaswag/hellaswag.yaml", {"process_docs": None}),
    "truthfulqa_mc1": LocalTask("truthfulqa/truthfulqa_mc1.yaml"),
}


def local_task(name: str, items: Path) -> ConfigurableTask:
    """The stock task `name` over the items of a JSON-lines file.

    Raises InputError for a name that is not in TASKS and for an item that does not have the task's fields.
    """
    check_task(name)
    try:
        data = items.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{items}: not found; run the benchmarks stage") from None
    task = TASKS[name]
    documents = Dataset.from_list(adapted_items(name, str(items), data))
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
    """Hold back those of lm-eval's warnings that do not apply here."""
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
