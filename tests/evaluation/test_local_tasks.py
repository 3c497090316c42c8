import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask

from secateurs.errors import InputError
from secateurs.evaluation.local_tasks import TASKS, local_task, stock_config
from secateurs.text.task_items import ADAPTERS

FOUR = {"choices": ["ice", "fire", "a stone", "wind"], "labels": ["A", "B", "C", "D"], "answer": "C"}
TWO = {"choices": ["glue", "a hammer"], "labels": ["A", "B"], "answer": "B"}
OPTIONS = {"text": FOUR["choices"], "label": FOUR["labels"]}

# Task -> an item as our files have it, and the same item as the hub's data set of the stock task has it.
ITEMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "arc_challenge": (
        {"question": "What sinks?", **FOUR},
        {"question": "What sinks?", "choices": OPTIONS, "answerKey": "C"},
    ),
    "openbookqa": (
        {"question": "It sinks:", **FOUR},
        {"question_stem": "It sinks:", "choices": OPTIONS, "answerKey": "C"},
    ),
    "piqa": (
        {"goal": "drive a nail", **TWO},
        {"goal": "drive a nail", "sol1": "glue", "sol2": "a hammer", "label": 1},
    ),
    "boolq": (
        {"passage": "Iron is a metal.", "question": "is iron a metal", "answer": "yes"},
        {"passage": "Iron is a metal.", "question": "is iron a metal", "label": 1},
    ),
    "winogrande": (
        {
            "sentence": "Ann met Eve, and _ smiled.",
            "choices": ["Ann", "Eve"],
            "labels": ["A", "B"],
            "answer": "B",
        },
        {"sentence": "Ann met Eve, and _ smiled.", "option1": "Ann", "option2": "Eve", "answer": "2"},
    ),
    "truthfulqa_mc1": (
        {
            "question": "Is it so?",
            "choices": ["Yes.", "No.", "It is."],
            "labels": ["A", "B", "C", "D"],
            "answer": "A",
        },
        {"question": "Is it so?", "mc1_targets": {"choices": ["Yes.", "No.", "It is."], "labels": [1, 0, 0]}},
    ),
}


def write_items(path: Path, items: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def stock_task(name: str, document: dict[str, Any]) -> ConfigurableTask:
    config = stock_config(TASKS[name].stock)
    config.pop("tag", None)
    splits = DatasetDict(dict.fromkeys(("train", "validation", "test"), Dataset.from_list([document] * 2)))
    return ConfigurableTask(config={**config, "custom_dataset": lambda **_: splits})


def requests(task: ConfigurableTask) -> list[tuple[str, str]]:
    task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=0)
    task.build_all_requests(limit=1)
    return [instance.args for instance in task.instances]


@pytest.mark.parametrize("name", ITEMS)
def test_requests_equal_those_of_the_stock_task_on_the_hub_item(name, tmp_path):
    ours, theirs = ITEMS[name]
    task = local_task(name, write_items(tmp_path / "items.jsonl", [ours, ours]))
    stock = stock_task(name, theirs)
    assert requests(task) == requests(stock)
    assert task.doc_to_target(task.eval_docs[0]) == stock.doc_to_target(stock.eval_docs[0])
    assert task.aggregation().keys() == stock.aggregation().keys()


def test_hellaswag_prompt_is_the_stock_one_but_for_the_activity_label(tmp_path):
    ours = {"question": "A man climbs a wall. he", **FOUR}
    theirs = {
        "ctx_a": "A man climbs a wall.",
        "ctx_b": "he",
        "activity_label": "Climbing",
        "endings": FOUR["choices"],
        "label": "2",
    }
    task = local_task("hellaswag_activitynet", write_items(tmp_path / "items.jsonl", [ours, ours]))
    stock = stock_task("hellaswag_activitynet", theirs)
    expected = [(prompt.removeprefix("Climbing: "), ending) for prompt, ending in requests(stock)]
    assert requests(task) == expected
    assert task.doc_to_target(task.eval_docs[0]) == stock.doc_to_target(stock.eval_docs[0])


def test_truthfulqa_puts_the_right_choice_first(tmp_path):
    item = {**ITEMS["truthfulqa_mc1"][0], "answer": "C"}
    task = local_task("truthfulqa_mc1", write_items(tmp_path / "items.jsonl", [item, item]))
    assert task.doc_to_choice(task.eval_docs[0]) == ["It is.", "Yes.", "No."]


def test_mathematics_is_asked_by_the_stock_prompt_without_examples(tmp_path):
    item = {"question": "1 + 1?", "answer": "2"}
    task = local_task("gsm8k", write_items(tmp_path / "items.jsonl", [item, item]))
    prompt, settings = requests(task)[0]
    assert prompt == "Question: 1 + 1?\nAnswer:"
    assert settings["until"] == ["Question:", "</s>", "<|im_end|>"]
    assert settings["max_gen_toks"] == 320
    assert not settings["do_sample"]


@pytest.mark.parametrize("name", ["humaneval", "humaneval_instruct"])
def test_functions_are_begun_as_the_stock_prompts_begin_them(name, tmp_path):
    item = {"prompt": "def f(x):\n", "test": "def check(f): pass\n", "entry_point": "f", "task_id": "1"}
    task = local_task(name, write_items(tmp_path / "items.jsonl", [item, item]), run_generated_code=True)
    prompt, settings = requests(task)[0]
    assert prompt.rstrip().endswith("def f(x):")
    assert "\ndef" in settings["until"] or name == "humaneval_instruct"


def test_programs_are_asked_for_by_the_stock_prompt_without_examples(tmp_path):
    tests = ["assert f(1) == 2", "assert f(2) == 3", "assert f(3) == 4"]
    item = {"prompt": "Write a function to add one.", "test": "\n".join(tests), "task_id": "1"}
    task = local_task("mbpp_instruct", write_items(tmp_path / "items.jsonl", [item, item]), True)
    prompt, settings = requests(task)[0]
    assert prompt.startswith("You are an expert Python programmer, and here is your task:\nWrite a function")
    assert prompt.count("expert") == 1
    assert all(test in prompt for test in tests)
    assert prompt.endswith("```python\n")
    assert settings["until"] == ["```"]


def test_a_task_without_three_assertions_is_refused(tmp_path):
    item = {"prompt": "Write a function to add one.", "test": "assert f(1) == 2"}
    path = write_items(tmp_path / "items.jsonl", [item, item])
    with pytest.raises(
        InputError, match=r"items\.jsonl:1: field 'test' has 1 lines that begin with `assert`"
    ):
        local_task("mbpp_instruct", path, True)


def test_unknown_task_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"benchmarks\.mystery: unknown task; .*arc_challenge, boolq"):
        local_task("mystery", tmp_path / "mystery.jsonl")


def test_item_without_a_field_is_refused_with_its_line(tmp_path):
    good = ITEMS["piqa"][0]
    path = write_items(tmp_path / "piqa.jsonl", [good, {key: good[key] for key in good if key != "goal"}])
    with pytest.raises(InputError, match=r"piqa\.jsonl:2: field 'goal' is missing; it must be text"):
        local_task("piqa", path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"piqa\.jsonl: not found"):
        local_task("piqa", tmp_path / "piqa.jsonl")


def test_every_local_task_has_an_adapter_and_a_stock_file():
    assert TASKS.keys() == ADAPTERS.keys()
