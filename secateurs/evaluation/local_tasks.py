"""Zero-shot tasks on local items: lm-eval's stock task, prompt and metrics, with the items taken from a file.

What a file of items has, and how it becomes what a stock prompt reads, is in text/task_items.py.
"""

import importlib.resources
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from secateurs.errors import InputError
from secateurs.evaluation.generation import before_first
from secateurs.evaluation.programs import run_through
from secateurs.text.benchmark_items import adapted_items
from secateurs.text.task_items import check_code, check_task


@dataclass(frozen=True)
class LocalTask:
    """A stock task file of lm-eval, and settings that replace stock ones."""

    stock: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


Documents = Sequence[Mapping[str, Any]]


def _functions(answers: Sequence[Sequence[str]], documents: Documents) -> list[float]:
    """1.0 for each answer that goes on with the function begun in its prompt, and passes its test."""
    return _run(
        f"{document['prompt']}{_code(answer)}\n{document['test']}\ncheck({document['entry_point']})\n"
        for document, answer in zip(documents, answers, strict=True)
    )


def _whole_programs(answers: Sequence[Sequence[str]], documents: Documents) -> list[float]:
    """1.0 for each answer that is a program of which the assertions hold."""
    return _run(
        f"{_code(answer)}\n{document['test']}\n" for document, answer in zip(documents, answers, strict=True)
    )


def _code(answers: Sequence[str]) -> str:
    return before_first(answers[0], ["```"])


def _run(programs: Iterable[str]) -> list[float]:
    return [float(passed) for passed in run_through(list(programs))]


def _passed(_: Mapping[str, Any], results: Sequence[float]) -> dict[str, float]:
    return {"pass@1": results[0]}


def _running(programs: Callable[[Sequence[Sequence[str]], Documents], list[float]]) -> dict[str, Any]:
    """A filter, because lm-eval gives it the answers of all items together, and its metrics those of one."""
    return {"name": "run", "filter": [{"function": "custom", "filter_fn": programs}]}


# These items have no training split for examples to come from, so there are none. An answer in the form of a
# chat takes more than the 256 tokens that lm-eval would give it.
_GENERATED = {"num_fewshot": 0, "fewshot_split": None, "generation": {"max_gen_toks": 320}}
_RUN = {
    "process_results": _passed,
    "filter_list": [_running(_functions)],
    "metric_list": [{"metric": "pass@1", "aggregation": "mean", "higher_is_better": True}],
    "unsafe_code": False,
    "generation": {"max_gen_toks": 512},
}
# The answer begins inside of a block of code, whose end is the answer's.
_RUN_BLOCK = {
    **_RUN,
    "filter_list": [_running(_whole_programs)],
    "num_fewshot": 0,
    "fewshot_config": None,
    "generation": {"max_gen_toks": 512, "until": ["```"]},
}

TASKS: dict[str, LocalTask] = {
    "arc_challenge": LocalTask("arc/arc_challenge.yaml"),
    "openbookqa": LocalTask("openbookqa/openbookqa.yaml"),
    "piqa": LocalTask("piqa/piqa.yaml"),
    "boolq": LocalTask("super_glue/boolq/default.yaml"),
    "winogrande": LocalTask("winogrande/default.yaml"),
    # Only the ActivityNet part of HellaSwag, so not comparable with published HellaSwag numbers.
    "hellaswag_activitynet": LocalTask("hellaswag/hellaswag.yaml", {"process_docs": None}),
    "truthfulqa_mc1": LocalTask("truthfulqa/truthfulqa_mc1.yaml"),
    "gsm8k": LocalTask("gsm8k/gsm8k.yaml", _GENERATED),
    "gsm8k_cot_zeroshot": LocalTask("gsm8k/gsm8k-cot-zeroshot.yaml", _GENERATED),
    "humaneval": LocalTask("humaneval/humaneval.yaml", _RUN),
    "humaneval_instruct": LocalTask("humaneval/humaneval_instruct.yaml", _RUN),
    "mbpp_instruct": LocalTask("mbpp/mbpp_instruct.yaml", _RUN_BLOCK),
}


def local_task(name: str, items: Path, run_generated_code: bool = False) -> ConfigurableTask:
    """The stock task `name` over the items of a JSON-lines file.

    Raises InputError for a name that is not in TASKS, for an item that does not have the task's fields, and
    for a task that runs what the model writes where that is not allowed.
    """
    check_task(name)
    check_code(name, run_generated_code)
    try:
        data = items.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{items}: not found; run the benchmarks stage") from None
    task = TASKS[name]
    documents = Dataset.from_list(adapted_items(name, str(items), data))
    stock, overrides = stock_config(task.stock), dict(task.overrides)
    generation = overrides.pop("generation", None)
    if generation is not None:
        overrides["generation_kwargs"] = {**stock["generation_kwargs"], **generation}
    config = {
        **stock,
        **overrides,
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
    """The settings of a task file that the installed lm-eval ships, `path` relative to its tasks.

    Functions that it names are loaded, except by tasks that run programs: those fetch a scorer from the hub.
    """
    with importlib.resources.as_file(importlib.resources.files("lm_eval.tasks").joinpath(path)) as file:
        plain = dict(load_yaml(file, resolve_func=False))
        return plain if plain.get("unsafe_code") else dict(load_yaml(file))
