"""Whether a task as lm-eval ships it can be scored here, by its settings alone.

Nothing is fetched, and none of the task's own code runs.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

ANSWERED = {"multiple_choice", "loglikelihood", "generate_until"}
# Metrics of single items, whose mean lm-eval takes where a task does not say how.
AVERAGED = {"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"}


def stock_problems(task: str) -> list[str]:
    """What keeps a task or group of lm-eval, by its name, from being scored; none where it can be."""
    index = task_manager().task_index
    if task not in index:
        return ["not a task or group of the installed lm-eval; `lm-eval ls tasks` lists them"]
    return list(dict.fromkeys(_problems(task, index)))


@cache
def task_manager() -> Any:
    """lm-eval's tasks, groups and tags by name; it takes seconds to import it and to read them."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _problems(name: str, index: Mapping[str, Any]) -> Iterator[str]:
    """What keeps a task, or those of a group, from being scored here."""
    entry = index[name]
    kind = entry.kind.name
    if kind == "TAG":
        yield "is a tag of several tasks; name them one by one"
    elif kind == "PY_TASK":
        yield "is a program of its own, which cannot be judged before it runs; choose another task"
    elif kind == "GROUP":
        for member in entry.cfg.get("task", []):
            # A member with settings of its own is judged by them and by the task that it changes.
            changes = member if isinstance(member, dict) else {}
            other = changes.get("task", changes.get("group")) if changes else member
            if isinstance(other, str) and other in index:
                yield from _problems(other, index)
    else:
        yield from _task_problems(entry.cfg)


def _task_problems(config: Mapping[str, Any]) -> Iterator[str]:
    output = config.get("output_type", "generate_until")
    if config.get("unsafe_code"):
        yield "runs programs that the model writes, unlimited; humaneval with local items limits them"
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        yield "shows pictures or sound, which the models here do not take"
    if output not in ANSWERED:
        yield f"asks for {output}; only choices and written answers are scored"
    settings = config.get("generation_kwargs") or {}
    if output == "generate_until" and settings.get("do_sample"):
        yield "draws its answers at random (do_sample: true); answers here are greedy"
    metrics = config.get("metric_list") or []
    if metrics and not any(_averaged(metric) for metric in metrics):
        names = ", ".join(str(metric.get("metric")) for metric in metrics)
        yield f"is scored by {names}, none of which is a mean over items"


def _averaged(metric: Mapping[str, Any]) -> bool:
    how = metric.get("aggregation")
    return how == "mean" or (how is None and metric.get("metric") in AVERAGED)
