"""What an item of each local zero-shot task must have, and how it becomes what the stock prompt reads.

A file has one JSON object a line: the task's own fields (`question`, or `goal`, `sentence`, `passage`),
`choices`, `labels` and the `answer`, one of the labels (BoolQ: only `answer`, yes or no; GSM8K: the number;
HumanEval: `prompt`, `test` and `entry_point`; MBPP: `prompt` and `test`, assertions a line each). An
adapter turns an item into the fields of the stock task's own data set. To add a task, add its adapter to
ADAPTERS here and its stock file to TASKS in evaluation/local_tasks.py.
"""

from collections.abc import Callable
from typing import Any

from secateurs.errors import InputError, SettingError

Item = dict[str, Any]


def adapt(task: str, where: str, item: Item) -> Item:
    """An item with the fields that the stock task reads. Raises InputError, naming `where`, at others."""
    try:
        return ADAPTERS[task](item)
    except _ItemError as error:
        raise InputError(f"{where}: {error}") from None


def check_task(task: str) -> None:
    """Raise InputError where local items cannot be scored for a task of this name."""
    if task not in ADAPTERS:
        raise SettingError(
            f"benchmarks.{task}: unknown task; local items can be scored for "
            f"{', '.join(sorted(ADAPTERS))}; any other task of lm-eval can be named with `source: stock`"
        )


def check_code(task: str, run_generated_code: bool) -> None:
    """Raise InputError for a task whose answers are programs that are run, unless that is allowed."""
    if task in RUNS_CODE and not run_generated_code:
        raise SettingError(
            f"benchmarks.{task}: runs the programs that the model writes, on this machine, with "
            "limits on time and memory only; set evaluate.run_generated_code: true to have that done"
        )


class _ItemError(ValueError):
    """A field of an item that is missing or of another kind."""


def _text(item: Item, field: str) -> str:
    value = item.get(field)
    if not isinstance(value, str) or not value.strip():
        shown = "is missing" if field not in item else f"is {value!r:.40}"
        raise _ItemError(
            f"field {field!r} {shown}; it must be text (the item has {', '.join(item) or 'no field'})"
        )
    return value


def _texts(item: Item, field: str, count: int | None) -> list[str]:
    values = item.get(field)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        shown = "is missing" if field not in item else f"is {values!r:.40}"
        raise _ItemError(f"field {field!r} {shown}; it must be a list of texts")
    if len(values) != count if count else len(values) < 2:
        raise _ItemError(f"field {field!r} has {len(values)} entries; it must have {count or 'at least 2'}")
    return values


def _choices(item: Item, count: int | None = None) -> tuple[list[str], int]:
    """The choices, and the place of the right one among them."""
    choices, labels, answer = _texts(item, "choices", count), _texts(item, "labels", None), item.get("answer")
    if not all(choice.strip() for choice in choices):
        raise _ItemError(f"field 'choices' is {choices!r:.40}; a choice must not be empty")
    if answer not in labels[: len(choices)]:
        raise _ItemError(
            f"field 'answer' is {answer!r:.40}; it must be the label of a choice: {', '.join(labels)}"
        )
    return choices, labels.index(answer)


def _options(item: Item) -> Item:
    choices, _ = _choices(item)
    if len(item["labels"]) != len(choices):
        raise _ItemError(
            f"field 'labels' has {len(item['labels'])} entries; it must have one for each choice"
        )
    return {"text": choices, "label": item["labels"]}


def _arc(item: Item) -> Item:
    return {"question": _text(item, "question"), "choices": _options(item), "answerKey": item["answer"]}


def _openbookqa(item: Item) -> Item:
    return {"question_stem": _text(item, "question"), "choices": _options(item), "answerKey": item["answer"]}


def _piqa(item: Item) -> Item:
    (first, second), right = _choices(item, 2)
    return {"goal": _text(item, "goal"), "sol1": first, "sol2": second, "label": right}


def _boolq(item: Item) -> Item:
    answers, answer = ("no", "yes"), item.get("answer")
    if answer not in answers:
        raise _ItemError(f"field 'answer' is {answer!r:.40}; it must be 'yes' or 'no'")
    label = answers.index(answer)
    return {"passage": _text(item, "passage"), "question": _text(item, "question"), "label": label}


def _winogrande(item: Item) -> Item:
    (first, second), right = _choices(item, 2)
    sentence = _text(item, "sentence")
    if "_" not in sentence:
        raise _ItemError("field 'sentence' has no `_` where the choice goes")
    return {"sentence": sentence, "option1": first, "option2": second, "answer": str(right + 1)}


def _hellaswag(item: Item) -> Item:
    # The stock prompt capitalises the unfinished last sentence. It also puts the activity's label in
    # front, which these items lack: one more reason why the task has a name of its own.
    choices, right = _choices(item)
    told, stop, unfinished = _text(item, "question").rpartition(". ")
    return {"query": told + stop + unfinished.capitalize(), "choices": choices, "label": str(right)}


def _truthfulqa(item: Item) -> Item:
    # The stock target is always the first choice; `labels` need not be as many as the choices here.
    choices, right = _choices(item)
    ordered = [choices[right], *choices[:right], *choices[right + 1 :]]
    return {"question": _text(item, "question"), "mc1_targets": {"choices": ordered}}


def _gsm8k(item: Item) -> Item:
    return {"question": _text(item, "question"), "answer": _text(item, "answer")}


def _humaneval(item: Item) -> Item:
    return {field: _text(item, field) for field in ("prompt", "test", "entry_point")}


def _mbpp(item: Item) -> Item:
    test = _text(item, "test")
    asserted = [line for line in test.splitlines() if line.startswith("assert")]
    if len(asserted) < 3:
        raise _ItemError(
            f"field 'test' has {len(asserted)} lines that begin with `assert`; the prompt shows 3"
        )
    return {"text": _text(item, "prompt"), "test_list": asserted, "test": test}


ADAPTERS: dict[str, Callable[[Item], Item]] = {
    "arc_challenge": _arc,
    "openbookqa": _openbookqa,
    "piqa": _piqa,
    "boolq": _boolq,
    "winogrande": _winogrande,
    "hellaswag_activitynet": _hellaswag,
    "truthfulqa_mc1": _truthfulqa,
    "gsm8k": _gsm8k,
    "gsm8k_cot_zeroshot": _gsm8k,
    "humaneval": _humaneval,
    "humaneval_instruct": _humaneval,
    "mbpp_instruct": _mbpp,
}
# Tasks whose answers are programs, which are run to see whether they are right.
RUNS_CODE = frozenset({"humaneval", "humaneval_instruct", "mbpp_instruct"})
