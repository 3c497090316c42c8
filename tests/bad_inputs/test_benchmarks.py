"""Own items of zero-shot tasks that cannot be scored: refused where they are read first, by their line."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages import benchmarks
from tests.bad_inputs.local import ITEM, local_params, make_project, said

BOOLQ = {"passage": "Iron is a metal.", "question": "is iron a metal", "answer": "yes"}
PIQA = {"goal": "drive a nail", "choices": ["glue", "a hammer"], "labels": ["A", "B"], "answer": "B"}
WINOGRANDE = {
    "sentence": "Ann met Eve, and _ smiled.",
    "choices": ["Ann", "Eve"],
    "labels": ["A", "B"],
    "answer": "B",
}


def without(item: dict[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != field}


# Task, what stands in the second line, what is said after the file's name.
CASES: dict[str, tuple[str, Any, str]] = {
    "no question": ("openbookqa", without(ITEM, "question"),
        ":2: field 'question' is missing; it must be text (the item has choices, labels, answer)"),
    "a number for a question": ("openbookqa", ITEM | {"question": 3},
        ":2: field 'question' is 3; it must be text (the item has question, choices, labels, answer)"),
    "no choices": ("openbookqa", without(ITEM, "choices"),
        ":2: field 'choices' is missing; it must be a list of texts"),
    "choices as a text": ("arc_challenge", ITEM | {"choices": "a, b"},
        ":2: field 'choices' is 'a, b'; it must be a list of texts"),
    "one choice": ("arc_challenge", ITEM | {"choices": ["a"]},
        ":2: field 'choices' has 1 entries; it must have at least 2"),
    "an empty choice": ("openbookqa", ITEM | {"choices": ["a stone", ""]},
        ":2: field 'choices' is ['a stone', '']; a choice must not be empty"),
    "a choice of blanks": ("piqa", PIQA | {"choices": [" ", "a hammer"]},
        ":2: field 'choices' is [' ', 'a hammer']; a choice must not be empty"),
    "an answer by number": ("openbookqa", ITEM | {"answer": 0},
        ":2: field 'answer' is 0; it must be the label of a choice: A, B"),
    "an answer that is a list": ("openbookqa", ITEM | {"answer": ["A"]},
        ":2: field 'answer' is ['A']; it must be the label of a choice: A, B"),
    "fewer labels than choices": ("openbookqa", ITEM | {"choices": ["a", "b", "c"]},
        ":2: field 'labels' has 2 entries; it must have one for each choice"),
    "three choices of two": ("piqa", PIQA | {"choices": ["a", "b", "c"]},
        ":2: field 'choices' has 3 entries; it must have 2"),
    "no gap": ("winogrande", WINOGRANDE | {"sentence": "Ann smiled."},
        ":2: field 'sentence' has no `_` where the choice goes"),
    "true for yes": ("boolq", BOOLQ | {"answer": True},
        ":2: field 'answer' is True; it must be 'yes' or 'no'"),
    "a list for an item": ("boolq", [1], ":2: a list; an item is a JSON object"),
    "one item only": ("boolq", None, ": 1 items; a standard error needs at least 2"),
}  # fmt: skip
FIRST = {"openbookqa": ITEM, "arc_challenge": ITEM, "piqa": PIQA, "winogrande": WINOGRANDE, "boolq": BOOLQ}


def refused(root: Path, model: Path, task: str, data: bytes | None) -> str:
    make_project(root, local_params(model, benchmarks={task: {"source": "path", "path": "items.jsonl"}}))
    if data is not None:
        (root / "items.jsonl").write_bytes(data)
    message = said(benchmarks.main)
    assert not (root / "data/benchmarks").exists()
    return message


@pytest.mark.parametrize("case", CASES)
def test_a_bad_item_is_refused(case: str, here: Path, dense_dir: Path) -> None:
    task, item, message = CASES[case]
    rows = [FIRST[task], *([] if item is None else [item])]
    data = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    found = refused(here, dense_dir, task, data)
    assert found == f"params.yaml: benchmarks.{task}.path: items.jsonl{message}"


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        (
            "openbookqa",
            f'{json.dumps(ITEM)}\n{json.dumps(ITEM)[:-1]}, "answer": "B"}}\n'.encode(),
            "openbookqa.path: items.jsonl:2: key 'answer' stands twice in one object; remove one of them",
        ),
        ("boolq", None, "boolq.path: items.jsonl: cannot be read: No such file or directory"),
        ("boolq", b"\n", "boolq.path: items.jsonl: 0 items; a standard error needs at least 2"),
        (
            "boolq",
            b'{"passage":',
            "boolq.path: items.jsonl:1: not valid JSON: Expecting value: line 1 column 12 (char 11); correct or "
            "remove it",
        ),
        (
            "boolq",
            b'{"passage": "\\ud83d"}',
            "boolq.path: items.jsonl:1: holds half an emoji (a lone surrogate); correct its text",
        ),
        (
            "mystery",
            b"",
            "mystery: unknown task; local items can be scored for arc_challenge, boolq, gsm8k, "
            "gsm8k_cot_zeroshot, hellaswag_activitynet, humaneval, humaneval_instruct, mbpp_instruct, openbookqa, piqa, "
            "truthfulqa_mc1, winogrande; any other task of lm-eval can be named with `source: stock`",
        ),
    ],
)
def test_a_bad_file_or_task_is_refused(
    task: str, data: bytes | None, message: str, here: Path, dense_dir: Path
) -> None:
    assert refused(here, dense_dir, task, data) == f"params.yaml: benchmarks.{message}"
