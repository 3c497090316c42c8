"""Tasks by lm-eval's stock prompts and metrics, item by item: local items, or stock ones from the hub."""

import functools
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval.api.task
import lm_eval.utils
from lm_eval.api.group import Group
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.errors import SettingError
from secateurs.evaluation.asking import Asking
from secateurs.evaluation.local_tasks import errors_only, local_task
from secateurs.evaluation.runner import Runner
from secateurs.evaluation.scores import mean_error

# Where a task reads an answer in several ways, the one that takes the number wherever it stands.
FLEXIBLE = "flexible-extract"


@dataclass(frozen=True)
class Answer:
    """One item: its id within the task, a number by metric (1.0 where it is right), the text written.

    The text is empty where choices are compared.
    """

    item: str
    scores: Mapping[str, float]
    text: str


@dataclass(frozen=True)
class Score:
    """A task's answers; a metric's value is the mean over the items, with its standard error."""

    answers: Sequence[Answer]

    @property
    def items(self) -> int:
        """How many items were asked."""
        return len(self.answers)

    def mean(self, metric: str) -> tuple[float, float]:
        """(mean, standard error): sample standard deviation / square root of the number of items."""
        return mean_error([answer.scores[metric] for answer in self.answers])

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics."""
        return list(self.answers[0].scores)

    def record(self) -> dict[str, float | int]:
        """`<metric>`, `<metric>_stderr` of each, and `items`."""
        record: dict[str, float | int] = {}
        for metric in self.metrics:
            record[metric], record[f"{metric}_stderr"] = self.mean(metric)
        return record | {"items": self.items}


def score_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Mapping[str, Path | None],
    asking: Asking,
) -> dict[str, Score]:
    """Every task's answers, in the order given.

    benchmarks: task -> its file of items, or None for a task as lm-eval ships it. Raises InputError for a
    task that is unknown or has no metric of single items, and for a model whose likelihoods are not numbers.
    """
    if not benchmarks:
        return {}
    if asking.limit == 1:
        raise SettingError("evaluate.limit: 1: a standard error needs at least 2 (0: all items)")
    if asking.chat_template and not tokenizer.chat_template:
        raise SettingError("evaluate.chat_template: true: the model's tokenizer has no chat template")
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    # Reading the index of all stock tasks takes seconds; local tasks do without.
    manager = TaskManager(include_defaults=None in benchmarks.values())
    found = [_task(name, path, manager, asking) for name, path in benchmarks.items()]
    loaded = manager.load(found)
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=asking.seed)
    samples = {
        name: draw(len(task.eval_docs), asking.limit, asking.seed) for name, task in loaded["tasks"].items()
    }
    logged: dict[str, Sequence[Mapping[str, Any]]] = {}
    for writes in (False, True):
        asked = {name: task for name, task in loaded["tasks"].items() if _writes(task) is writes}
        if asked:
            chat = asking.chat_template and writes
            logged |= _logged(Runner(model, tokenizer, asking.batch_size), asked, samples, chat)
    members = {name: _members(task) for name, task in zip(benchmarks, found, strict=True)}
    return {
        name: Score([answer for task in tasks for answer in _answers(name, task, logged)])
        for name, tasks in members.items()
    }


def _writes(task: Task) -> bool:
    return str(task.OUTPUT_TYPE) == "generate_until"


def _logged(
    runner: Runner, tasks: Mapping[str, Task], samples: Mapping[str, list[int]], chat: bool
) -> dict[str, Sequence[Mapping[str, Any]]]:
    """What lm-eval logs of every item, by task."""
    with errors_only(), _no_bar_for_prompts(), _templates_compiled_once():
        results: Mapping[str, Any] = evaluate(
            lm=runner,
            task_dict={"tasks": dict(tasks), "groups": {}, "group_map": {}},
            samples={name: samples[name] for name in tasks},
            log_samples=True,
            bootstrap_iters=0,
            apply_chat_template=chat,
        )
    return dict(results["samples"])


def _task(name: str, path: Path | None, manager: TaskManager, asking: Asking) -> Task | Group:
    if path is not None:
        return local_task(name, path, asking.run_generated_code)
    if name not in manager.all_subtasks and name not in manager.all_groups:
        raise SettingError(
            f"benchmarks.{name}: not a task or group of the installed lm-eval; `lm-eval ls tasks` lists them"
        )
    loaded = manager.load([name])
    return loaded["groups"].get(name) or loaded["tasks"][name]


def _members(task: Task | Group) -> list[Task]:
    """A group's tasks, or the task itself."""
    return list(task.get_all_tasks()) if isinstance(task, Group) else [task]


def draw(available: int, limit: int, seed: int) -> list[int]:
    """The numbers of the items that are asked: all of them, or `limit` drawn with the seed."""
    if limit == 0 or limit >= available:
        return list(range(available))
    return sorted(random.Random(seed).sample(range(available), limit))


def _answers(name: str, task: Task, samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Answer]:
    """The items of one task as lm-eval logs them, by one of its ways of reading an answer."""
    logged = samples[task.task_name]
    filters = list(dict.fromkeys(one["filter"] for one in logged))
    chosen = FLEXIBLE if FLEXIBLE in filters else filters[0]
    averaged = {metric for metric, how in task.aggregation().items() if how is mean}
    for one in logged:
        if one["filter"] != chosen:
            continue
        scores = {key: float(one[key]) for key in one["metrics"] if key in averaged}
        if not scores:
            raise SettingError(
                f"benchmarks.{name}: has no metric that is a mean over its items, but "
                f"{', '.join(one['metrics'])}; choose another task"
            )
        text = one["resps"][0][0]
        item = str(one["doc_id"]) if task.task_name == name else f"{task.task_name}:{one['doc_id']}"
        yield Answer(item, scores, text if isinstance(text, str) else "")


@contextmanager
def _templates_compiled_once() -> Iterator[None]:
    # lm-eval compiles the template of a prompt anew for every item, which takes longer than all else it does.
    environment = lm_eval.utils.env
    environment.from_string = functools.lru_cache(maxsize=256)(environment.from_string)
    try:
        yield
    finally:
        del environment.from_string


@contextmanager
def _no_bar_for_prompts() -> Iterator[None]:
    # lm-eval draws a bar per task while it builds prompts (an instant) and has no switch for it.
    bar = lm_eval.api.task.tqdm
    lm_eval.api.task.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        lm_eval.api.task.tqdm = bar
