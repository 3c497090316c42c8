import math
from pathlib import Path

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.checkpoints.loading import load_model
from stages.checkpoints.saving import save_model
from stages.common.errors import InputError
from stages.evaluation.zero_shot import score_tasks
from stages.pruning.cutting import cut
from tests.conftest import make_tiny_model
from tests.evaluation.test_tasks import write_items

WORDS = ["oak", "granite", "sea", "a tall tower", "fog", "rust"]


@pytest.fixture(scope="module")
def model(dense_dir: Path):
    return AutoModelForCausalLM.from_pretrained(dense_dir).eval()


@pytest.fixture(scope="module")
def tokenizer(dense_dir: Path):
    return AutoTokenizer.from_pretrained(dense_dir)


@pytest.fixture
def items() -> list[dict]:
    return [
        {
            "question": f"Which is number {index}?",
            "choices": [WORDS[index % 6], WORDS[(index + 1) % 6], WORDS[(index + 2) % 6]],
            "labels": ["A", "B", "C"],
            "answer": "ABC"[index % 3],
        }
        for index in range(12)
    ]


def log_likelihood(model, tokenizer, prompt: str, ending: str) -> float:
    given = len(tokenizer(prompt)["input_ids"])
    ids = torch.tensor([tokenizer(prompt + ending)["input_ids"]])
    with torch.no_grad():
        logs = model(input_ids=ids).logits.log_softmax(-1)[0, :-1]
    return logs.gather(1, ids[0, 1:, None])[given - 1 :].sum().item()


def test_accuracies_equal_those_of_likelihoods_computed_by_hand(model, tokenizer, items, tmp_path):
    path = write_items(tmp_path / "arc_challenge.jsonl", items)
    result = score_tasks(model, tokenizer, {"arc_challenge": path}, 0, 0, 4)["arc_challenge"]
    plain, normalised = [], []
    for item in items:
        prompt = f"Question: {item['question']}\nAnswer:"
        scores = [log_likelihood(model, tokenizer, prompt, f" {choice}") for choice in item["choices"]]
        lengths = [len(choice) for choice in item["choices"]]
        right = item["labels"].index(item["answer"])
        plain.append(scores.index(max(scores)) == right)
        rates = [score / length for score, length in zip(scores, lengths, strict=True)]
        normalised.append(rates.index(max(rates)) == right)
    acc = sum(plain) / 12
    assert result.acc == pytest.approx(acc)
    assert result.acc_norm == pytest.approx(sum(normalised) / 12)
    assert result.acc_stderr == pytest.approx(math.sqrt(acc * (1 - acc) / 11))
    assert result.items == 12


def test_limit_draws_the_same_items_for_the_same_seed(model, tokenizer, items, tmp_path):
    benchmarks = {"arc_challenge": write_items(tmp_path / "arc_challenge.jsonl", items)}
    first, second = (score_tasks(model, tokenizer, benchmarks, 5, 3, 4) for _ in range(2))
    assert first == second
    assert first["arc_challenge"].items == 5


def test_task_without_a_normalised_accuracy_has_none(model, tokenizer, tmp_path):
    item = {"passage": "Iron is a metal.", "question": "is iron a metal", "answer": "yes"}
    path = write_items(tmp_path / "boolq.jsonl", [item, {**item, "answer": "no"}])
    result = score_tasks(model, tokenizer, {"boolq": path}, 0, 0, 4)["boolq"]
    assert result.acc_norm is None
    assert result.acc == 0.5


def test_layers_of_different_widths_are_scored_as_in_memory_by_name_and_loaded(tokenizer, items, tmp_path):
    smaller = make_tiny_model()
    cut(smaller, {f"{layer}/mlp": torch.arange(48) >= 8 * layer for layer in range(3)})
    save_model(smaller, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    benchmarks = {"arc_challenge": write_items(tmp_path / "arc_challenge.jsonl", items)}
    expected = score_tasks(smaller, tokenizer, benchmarks, 0, 0, 4)
    assert score_tasks(load_model(tmp_path, "float32"), tokenizer, benchmarks, 0, 0, 4) == expected
    named = HFLM(pretrained=str(tmp_path), trust_remote_code=True, device="cpu", dtype="float32")
    assert score_tasks(named.model, named.tokenizer, benchmarks, 0, 0, 4) == expected


def test_no_benchmarks_give_no_accuracies(model, tokenizer):
    assert score_tasks(model, tokenizer, {}, 10, 0, 4) == {}


def test_limit_of_one_is_refused(model, tokenizer, tmp_path):
    with pytest.raises(InputError, match=r"evaluate\.limit: 1"):
        score_tasks(model, tokenizer, {"piqa": tmp_path / "piqa.jsonl"}, 1, 0, 4)


def test_nothing_is_printed_where_nobody_watches(model, tokenizer, items, tmp_path, capfd):
    path = write_items(tmp_path / "arc_challenge.jsonl", items)
    score_tasks(model, tokenizer, {"arc_challenge": path}, 4, 0, 4)
    assert capfd.readouterr().err == ""


def test_likelihoods_that_are_not_numbers_are_refused(tokenizer, items, tmp_path):
    broken = make_tiny_model().eval()
    broken.model.norm.weight.data.fill_(float("nan"))
    path = write_items(tmp_path / "arc_challenge.jsonl", items)
    with pytest.raises(InputError, match="the model gives no number as a likelihood"):
        score_tasks(broken, tokenizer, {"arc_challenge": path}, 0, 0, 4)
