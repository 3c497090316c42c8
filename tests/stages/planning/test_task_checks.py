"""Tasks that cannot be scored are named before anything runs, by lm-eval's own task files."""

from typing import Any

import pytest

from secateurs.errors import InputError
from stages.params.file import Params, read_params
from stages.planning.task_checks import check_tasks
from tests.project import change, read_yaml, write_params


def params(tmp_path, tasks: dict[str, dict[str, Any]], **evaluate: Any) -> Params:
    changes = {"benchmarks": tasks, **{f"evaluate.{key}": value for key, value in evaluate.items()}}
    return read_params(write_params(tmp_path, change(read_yaml(), changes)))


LOCAL = {"source": "path", "path": "items.jsonl"}
STOCK = {"source": "stock"}


def test_what_can_be_scored_passes(tmp_path) -> None:
    tasks = {"gsm8k": STOCK, "arithmetic_1dc": STOCK, "lambada_openai": STOCK, "truthfulqa_mc1": LOCAL}
    check_tasks(params(tmp_path, tasks))


@pytest.mark.parametrize(
    ("task", "benchmark", "message"),
    [
        ("mystery", STOCK, "not a task or group of the installed lm-eval"),
        ("mystery", LOCAL, "unknown task; local items can be scored for "),
        ("mmlu", STOCK, "is a tag of several tasks; name them one by one"),
        ("wikitext", STOCK, "asks for loglikelihood_rolling"),
        ("humaneval", STOCK, "runs programs that the model writes, unlimited"),
        ("gsm8k_cot_self_consistency", STOCK, "draws its answers at random"),
        ("humaneval", LOCAL, "set evaluate.run_generated_code: true"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, task: str, benchmark: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_tasks(params(tmp_path, {task: benchmark}))
    assert str(caught.value).startswith(f"params.yaml: benchmarks.{task}: ")
    assert message in str(caught.value)


def test_programs_may_be_run_where_that_is_said(tmp_path) -> None:
    check_tasks(params(tmp_path, {"humaneval": LOCAL}, run_generated_code=True))


def test_all_problems_are_listed_at_once(tmp_path) -> None:
    with pytest.raises(InputError) as caught:
        check_tasks(params(tmp_path, {"one": LOCAL, "two": LOCAL}))
    assert len(str(caught.value).splitlines()) == 2
