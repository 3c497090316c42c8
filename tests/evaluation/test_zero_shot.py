import copy
import json
import math
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, normalizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from secateurs.checkpoints.loading import load_model
from secateurs.checkpoints.saving import save_model
from secateurs.errors import InputError
from secateurs.evaluation import runner
from secateurs.evaluation.asking import Asking
from secateurs.evaluation.local_tasks import TASKS, local_task
from secateurs.evaluation.runner import Runner
from secateurs.evaluation.zero_shot import draw, score_tasks
from secateurs.kinds.sites import cut
from tests.evaluation.test_local_tasks import ITEMS, write_items
from tests.families.test_boundaries import ending
from tests.tiny import make_tiny_model, make_tiny_tokenizer

ALL = Asking(limit=0, seed=0, batch_size=4)
# How lm-eval calls a metric, by the way of reading an answer that stands for the task.
READINGS = ("none", "flexible-extract")
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
    result = score_tasks(model, tokenizer, {"arc_challenge": path}, ALL)["arc_challenge"].record()
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
    assert result["acc"] == pytest.approx(acc)
    assert result["acc_norm"] == pytest.approx(sum(normalised) / 12)
    assert result["acc_stderr"] == pytest.approx(math.sqrt(acc * (1 - acc) / 11))
    assert result["items"] == 12


@pytest.mark.parametrize("name", [name for name in ITEMS if name in TASKS])
def test_every_task_is_scored_as_lm_evals_own_wrapper_does(name, model, tokenizer, tmp_path):
    (ours, _) = ITEMS[name]
    path = write_items(tmp_path / f"{name}.jsonl", [ours, ours, ours])
    found = score_tasks(model, tokenizer, {name: path}, ALL)[name].record()
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2)
    manager = TaskManager(include_defaults=False)
    expected = evaluate(lm=theirs, task_dict=manager.load([local_task(name, path)]), bootstrap_iters=0)
    results = expected["results"][name]
    for metric in (key for key in found if f"{key}_stderr" in found):
        (theirs_of_it,) = {results[f"{metric},{one}"] for one in READINGS if f"{metric},{one}" in results}
        assert found[metric] == pytest.approx(theirs_of_it)


def test_limit_draws_the_same_items_for_the_same_seed(model, tokenizer, items, tmp_path):
    benchmarks = {"arc_challenge": write_items(tmp_path / "arc_challenge.jsonl", items)}
    first, second = (score_tasks(model, tokenizer, benchmarks, Asking(5, 3, 4)) for _ in range(2))
    assert first == second
    assert first["arc_challenge"].items == 5
    assert [answer.item for answer in first["arc_challenge"].answers] == [str(n) for n in draw(12, 5, 3)]


def test_task_without_a_normalised_accuracy_has_none(model, tokenizer, tmp_path):
    item = {"passage": "Iron is a metal.", "question": "is iron a metal", "answer": "yes"}
    path = write_items(tmp_path / "boolq.jsonl", [item, {**item, "answer": "no"}])
    result = score_tasks(model, tokenizer, {"boolq": path}, ALL)["boolq"].record()
    assert "acc_norm" not in result
    assert result["acc"] == 0.5


def test_layers_of_different_widths_are_scored_as_in_memory_by_name_and_loaded(tokenizer, items, tmp_path):
    smaller = make_tiny_model()
    cut(smaller, {f"{layer}/mlp": torch.arange(48) >= 8 * layer for layer in range(3)})
    save_model(smaller, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    benchmarks = {"arc_challenge": write_items(tmp_path / "arc_challenge.jsonl", items)}
    expected = score_tasks(smaller, tokenizer, benchmarks, ALL)
    assert score_tasks(load_model(tmp_path, "float32"), tokenizer, benchmarks, ALL) == expected
    named = HFLM(pretrained=str(tmp_path), trust_remote_code=True, device="cpu", dtype="float32")
    assert score_tasks(named.model, named.tokenizer, benchmarks, ALL) == expected


def test_no_benchmarks_give_no_accuracies(model, tokenizer):
    assert score_tasks(model, tokenizer, {}, ALL) == {}


def test_limit_of_one_is_refused(model, tokenizer, tmp_path):
    with pytest.raises(InputError, match=r"evaluate\.limit: 1"):
        score_tasks(model, tokenizer, {"piqa": tmp_path / "piqa.jsonl"}, Asking(1, 0, 4))


def test_nothing_is_printed_where_nobody_watches(model, tokenizer, items, tmp_path, capfd):
    path = write_items(tmp_path / "arc_challenge.jsonl", items)
    score_tasks(model, tokenizer, {"arc_challenge": path}, Asking(4, 0, 4))
    assert capfd.readouterr().err == ""


def test_likelihoods_that_are_not_numbers_are_refused(tokenizer, items, tmp_path):
    broken = make_tiny_model().eval()
    broken.model.norm.weight.data.fill_(float("nan"))
    path = write_items(tmp_path / "arc_challenge.jsonl", items)
    with pytest.raises(InputError, match="the model gives no number as a likelihood"):
        score_tasks(broken, tokenizer, {"arc_challenge": path}, ALL)


def test_prompts_go_through_the_chat_template_where_asked(model, tokenizer, items, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Runner, "_encode", lambda self, texts, *_: asked.extend(texts) or [(2, 3)] * len(texts)
    )
    template = "{% for turn in messages %}[{{ turn.role }}]{{ turn.content }}{% endfor %}[assistant]"
    chatting = copy.deepcopy(tokenizer)
    chatting.chat_template = template
    path = write_items(tmp_path / "gsm8k.jsonl", [{"question": "1 + 1?", "answer": "2"}] * 2)
    score_tasks(model, chatting, {"gsm8k": path}, Asking(0, 0, 4, chat_template=True))
    assert set(asked) == {"[user]Question: 1 + 1?\nAnswer:[assistant]"}


def test_a_tokenizer_without_a_chat_template_is_refused(model, tokenizer, tmp_path):
    with pytest.raises(InputError, match=r"evaluate\.chat_template: true: the model's tokenizer has no chat"):
        score_tasks(model, tokenizer, {"piqa": tmp_path / "piqa.jsonl"}, Asking(0, 0, 4, chat_template=True))


def test_a_number_is_taken_wherever_it_stands_in_an_answer(model, tokenizer, tmp_path, monkeypatch):
    answers = iter(["It makes $1,018 in all.", "#### 7"])
    monkeypatch.setattr(runner, "generate", lambda *_: [next(answers), next(answers)])
    path = write_items(
        tmp_path / "gsm8k.jsonl", [{"question": "a?", "answer": "1018"}, {"question": "b?", "answer": "8"}]
    )
    score = score_tasks(model, tokenizer, {"gsm8k": path}, ALL)["gsm8k"]
    assert [answer.scores["exact_match"] for answer in score.answers] == [1.0, 0.0]
    assert score.answers[1].text == "#### 7"


def test_a_written_function_counts_where_it_passes_its_test(model, tokenizer, tmp_path, monkeypatch):
    item = {
        "prompt": "def double(x):\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
        "entry_point": "double",
    }
    answers = iter(["    return 2 * x\n```\nand so on", "    return x\n"])
    monkeypatch.setattr(runner, "generate", lambda *_: [next(answers), next(answers)])
    path = write_items(tmp_path / "humaneval.jsonl", [item, {**item, "prompt": "def double(x) :\n"}])
    score = score_tasks(model, tokenizer, {"humaneval": path}, Asking(0, 0, 4, run_generated_code=True))
    assert [answer.scores["pass@1"] for answer in score["humaneval"].answers] == [1.0, 0.0]


def test_a_written_program_counts_where_its_assertions_hold(model, tokenizer, tmp_path, monkeypatch):
    test = "assert double(1) == 2\nassert double(2) == 4\nassert double(3) == 6"
    items = [{"prompt": f"Write a function to double. {number}", "test": test} for number in range(2)]
    answers = iter(["def double(x):\n    return 2 * x\n```\nIt doubles.", "def double(x):\n    return 2\n"])
    monkeypatch.setattr(runner, "generate", lambda *_: [next(answers), next(answers)])
    path = write_items(tmp_path / "mbpp.jsonl", items)
    score = score_tasks(model, tokenizer, {"mbpp_instruct": path}, Asking(0, 0, 4, run_generated_code=True))
    assert [answer.scores["pass@1"] for answer in score["mbpp_instruct"].answers] == [1.0, 0.0]


def test_programs_are_not_run_unless_that_is_asked_for(model, tokenizer, tmp_path):
    message = r"benchmarks\.humaneval: runs the programs that the model writes, .*run_generated_code: true"
    with pytest.raises(InputError, match=message):
        score_tasks(model, tokenizer, {"humaneval": tmp_path / "humaneval.jsonl"}, ALL)


@pytest.mark.parametrize("pattern", ["$A </s>", "<s> $A </s>"])
def test_a_tokenizer_that_ends_every_text_scores_the_whole_choice(pattern, model, items, tmp_path):
    benchmarks = {"arc_challenge": write_items(tmp_path / "arc_challenge.jsonl", items)}
    expected = score_tasks(model, ending(pattern.removesuffix(" </s>")), benchmarks, ALL)
    assert score_tasks(model, ending(pattern), benchmarks, ALL) == expected


def test_an_answer_is_written_after_the_question_and_not_after_an_end_token(model, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(runner, "generate", lambda _m, _t, prompts, *_: asked.extend(prompts) or ["", ""])
    path = write_items(tmp_path / "gsm8k.jsonl", [{"question": "1 + 1?", "answer": "2"}] * 2)
    score_tasks(model, ending("<s> $A </s>"), {"gsm8k": path}, ALL)
    assert make_tiny_tokenizer().decode(asked[0]) == "<s>Question: 1 + 1?\nAnswer:"


def merging(pair: tuple[str, str]):
    """The tiny tokenizer with one merge, of these two."""
    state = json.loads(make_tiny_tokenizer().backend_tokenizer.to_str())
    state["model"]["vocab"]["".join(pair)] = 257
    del state["model"]["vocab"][next(key for key, index in state["model"]["vocab"].items() if index == 257)]
    state["model"]["merges"] = [list(pair)]
    state["model"]["vocab"]["".join(pair)] = 257
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), bos_token="<s>", eos_token="</s>"
    )


@pytest.mark.parametrize("choice", ["o", "oak"])
def test_a_choice_that_merges_into_its_context_is_asked_whole(choice, model):
    tokenizer = merging(("d", "o"))
    assert len(tokenizer("do")["input_ids"]) == 1
    asked = Runner(model, tokenizer, 4)._continuations([("Ad", choice)])
    assert tokenizer.decode(asked[0].context) == "Ad"
    assert tokenizer.decode(asked[0].asked) == choice


def test_a_choice_that_does_not_merge_is_encoded_with_its_context(model, tokenizer):
    (asked,) = Runner(model, tokenizer, 4)._continuations([("Ad ", "oak")])
    assert [tokenizer.decode(asked.context), tokenizer.decode(asked.asked)] == ["Ad", " oak"]


def test_an_empty_choice_is_refused(model, tokenizer):
    item = Instance("loglikelihood", {}, ("Q:", " "), 2, ("mine", 7, 1))
    message = r"^benchmarks\.mine: item 7: choice 2 is empty, and there is no likelihood of nothing; correct"
    with pytest.raises(InputError, match=message):
        Runner(model, tokenizer, 4).loglikelihood([item])


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ("\u200b\u200b", "'\\u200b\\u200b': is no token in the model's tokenizer"),
        (" " + "oak" * 180, "has 541 tokens, more than the 512 that the model can read"),
    ],
)
def test_a_choice_that_cannot_be_asked_whole_is_refused(choice, why, model, tokenizer):
    # Normalisers drop characters that do not show, and a tokenizer without an unknown token what it has not.
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    item = Instance("loglikelihood", {}, ("Q:", choice), 2, ("mine", 7, 1))
    with pytest.raises(InputError) as refused:
        Runner(model, tokenizer, 4).loglikelihood([item])
    assert str(refused.value) == (
        f"benchmarks.mine: item 7: choice 2 {why}; correct the item, or choose another task"
    )


def test_a_choice_that_begins_another_is_asked_by_itself(model, tokenizer):
    asked = Runner(model, tokenizer, 4)._continuations([("Q:", " fo"), ("Q:", " fox"), ("Q:", "fox")])
    assert [tokenizer.decode(one.asked) for one in asked] == [" fo", " fox", "fox"]
    assert {one.context for one in asked} == {asked[0].context}
