"""`secateurs prune --recover TIME --eval TASK,...`: what is trained and scored, and what is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateurs.cli import main
from secateurs.evaluation.asking import Asking
from secateurs.evaluation.zero_shot import score_tasks
from secateurs.order_recovery import recovery_of
from secateurs.order_tasks import ngrams_in
from secateurs.text.overlap import ngrams
from tests.project import invoke, read_yaml, text
from tests.test_command import FEW
from tests.tiny import make_tiny_model, make_tiny_tokenizer

# Steps end it long before the minutes do.
SHORT = ["--recover", "20m"]
SHORT += [
    f"--set=recover.{key}" for key in ("steps=4", "check_every=2", "batch_size=4", "micro_batch_size=4")
]
ITEMS = [
    {
        "goal": f"Prune branch {number}",
        "choices": ["with a saw", "by hand"],
        "labels": ["A", "B"],
        "answer": right,
    }
    for number, right in enumerate("ABBABA")
]


@pytest.fixture
def pages(here: Path) -> Path:
    make_tiny_model().save_pretrained(here / "model")
    make_tiny_tokenizer().save_pretrained(here / "model")
    (here / "docs").mkdir()
    for number, page in enumerate(text(11).splitlines()):
        (here / "docs" / f"{number}.md").write_text(page, encoding="utf-8")
    (here / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)), encoding="utf-8")
    return here


def run(*arguments: str, status: int = 0) -> str:
    return invoke(main, "prune", "model", "--text", "docs", *FEW, *arguments, status=status)


def columns(card: str) -> dict[str, list[str]]:
    """The card's table: the cells by what they are of."""
    lines = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("|")]
    return {name: cells for name, *cells in lines}


@pytest.mark.usefixtures("quick_programs")
def test_a_card_has_the_model_as_it_was_pruned_beside_the_recovered_one(pages: Path) -> None:
    asked = ["--eval", "piqa=items.jsonl", "--set", "prune.width_multiple=8"]
    run(*asked, "--out", "small")
    said = run(*asked, *SHORT, "--out", "trained").splitlines()
    card = (pages / "trained/README.md").read_text(encoding="utf-8")
    alone, both = columns((pages / "small/README.md").read_text(encoding="utf-8")), columns(card)
    assert both["held-out text and tasks"] == ["dense", "pruned", "recovered"]
    for row in ("docs, perplexity", "piqa, acc_norm of 6 items"):
        assert both[row][:2] == alone[row]
        assert any(line.startswith(f"| {row} | ") for line in said)
    before, after = (load_file(pages / name / "model.safetensors") for name in ("small", "trained"))
    assert any(not torch.equal(weight, after[name]) for name, weight in before.items())
    ends = ("model.embed_tokens.weight", "lm_head.weight")
    assert all(torch.equal(before[name], after[name]) for name in ends if name in before)
    first, best = map(float, re.findall(r"left-out text ([\d.]+) -> ([\d.]+) nats", card)[0])
    assert best < first
    # By a model that is loaded anew, and asked by the library itself.
    loaded = AutoModelForCausalLM.from_pretrained("trained"), AutoTokenizer.from_pretrained("trained")
    score = score_tasks(*loaded, {"piqa": Path("items.jsonl")}, Asking(limit=0, seed=0, batch_size=8))["piqa"]
    assert both["piqa, acc_norm of 6 items"][2].startswith(f"{score.mean('acc_norm')[0]:.3f} (")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recover", "10"], "--recover: 10: write a time with its unit: 90s, 10m or 1h"),
        (["--recover", "5d"], "--recover: 5d: write a time with its unit"),
        (["--recover", "-3m"], "--recover: -3m: must be more than 0"),
        (["--recover", "0s"], "--recover: 0s: must be more than 0"),
        (["--set", "recover.steps=3"], "--set: recover.steps: nothing is recovered; add --recover 10m"),
        (["--recover", "1m", "--set", "recover.stepz=3"], "recover.stepz: unknown key"),
        (["--recover", "1m", "--set", "recover.foo.x=3"], "recover.foo.x: 3: unknown key; foo is no group"),
        (
            ["--recover", "1m", "--set", "recover.own.plain=4", "--set", "recover.mixture.plain=1.0"],
            "recover.mixture: text that the dense model writes is read by the pipeline alone",
        ),
        (["--recover", "1m", "--set", "recover.left_out=500"], "recover.left_out: docs has "),
        (
            ["--recover", "1m", "--set", "recover.micro_batch_size=2000000000"],
            "--recover: recover.weights: scales: needs about ",
        ),
        (["--recover", "1m", "--device", "sharded"], "--recover: --device sharded: a recovery needs one "),
        (["--eval", "nope=items.jsonl"], "--eval: nope=items.jsonl: no task that takes items of"),
        (["--eval", "piqa=none.jsonl"], "--eval: benchmarks.piqa.path: none.jsonl: cannot be read"),
        (["--eval", "gsm8k=items.jsonl"], "--eval: benchmarks.gsm8k.path: items.jsonl:1: field 'question'"),
        (["--eval", "piqa=items.jsonl,piqa"], "--eval: piqa: is named twice"),
        (["--eval", "piqa,,boolq"], "--eval: piqa,,boolq: write TASK or TASK=ITEMS.jsonl"),
        (["--eval", "humaneval=items.jsonl"], "add --run-generated-code to have that done"),
        (["--eval", "humaneval", "--run-generated-code"], "a file of items: --eval humaneval=items.jsonl"),
        (["--eval", "mbpp", "--run-generated-code"], "--eval: benchmarks.mbpp: runs programs that the model"),
        (["--eval", "wikitext"], "--eval: benchmarks.wikitext: asks for loglikelihood_rolling"),
        (["--limit", "1"], "--limit: 1: a standard error needs at least 2 items"),
        (["--tokens", "0"], "--tokens: 0: "),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_before_pruning(arguments: list[str], said: str, pages: Path) -> None:
    shown = run(*arguments, "--out", "small", status=1)
    assert said in shown
    assert "r1 …" not in shown
    assert not (pages / "small").exists()


@pytest.mark.usefixtures("pages")
def test_a_task_that_the_hub_cannot_give_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    shown = run("--eval", "gsm8k", "--out", "small", status=1)
    assert "--eval: benchmarks.gsm8k: lm-eval cannot load it: " in shown
    assert "where the hub is not to be reached, give its items: --eval gsm8k=items.jsonl" in shown


def test_what_is_not_asked_for_of_a_recovery_is_as_in_params_yaml() -> None:
    ours, theirs = recovery_of("90s", {}).model_dump(), read_yaml()["recover"]
    assert ours["minutes"] == 1.5
    assert ours["mixture"] == {"calibration": 1.0, "plain": 0.0, "dialogues": 0.0}
    for key in ("minutes", "mixture", "steps"):
        del ours[key], theirs[key]
    ours["own"].update(plain=theirs["own"]["plain"], dialogues=theirs["own"]["dialogues"])
    assert ours == theirs


def test_no_text_that_prunes_has_the_words_of_an_item() -> None:
    goal = " ".join(f"word{number}" for number in range(20))
    items = "\n".join(json.dumps({"goal": goal, "number": number}) for number in range(2)).encode()
    assert ngrams_in({"piqa": items}, 13) == ngrams(goal, 13)
    assert len(ngrams(goal, 13)) == 8
