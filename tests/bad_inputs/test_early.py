"""What is known before anything is fetched or computed is said by the plan, and by the model stage too."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from stages import corpus, model, own_text, plan, sample, sources, timings
from tests.bad_inputs.local import ITEM, LINES, local_params, make_project, said
from tests.project import change_json, invoke, invoke_all, write_params
from tests.tiny import make_tiny_model, make_tiny_tokenizer

P = "params.yaml: "
LONG = "more than the 512 tokens that the model can read (max_position_embeddings); lower it"
TASKS = (
    "arc_challenge, boolq, gsm8k, gsm8k_cot_zeroshot, hellaswag_activitynet, humaneval, humaneval_instruct, "
    "mbpp_instruct, openbookqa, piqa, truthfulqa_mc1, winogrande; any other task of lm-eval can be named with `source: stock`"
)
LOCAL = {"source": "path", "path": "items.jsonl"}
PACKAGE = {"source": "package", "package": "a==1", "archive": "wheel", "member": "m", "sha256": "0" * 64}

VLLM = (
    "`python -m pip install vllm` in an environment of its own and give its Python as compute.vllm_python, or set "
    "sample.engine: ours"
)
PIPE = "a pipe, not a file; write what it gives to a file, and name that"
DEVICE = "a device, not a file; write what it gives to a file, and name that"
# What csv makes of the first item.
HEADER = next(csv.reader([json.dumps(ITEM)]))

# Changes to params, and all that is said.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "long sequences": ({"corpus__sequence_length": 513, "sample__documents": 999}, f"{P}corpus.sequence_length: 513: {LONG}"),
    "long prompts": ({"evaluate__prompt_tokens": 500, "evaluate__decode_tokens": 13},
        f"{P}evaluate.prompt_tokens: 500: with evaluate.decode_tokens: 13: {LONG}"),
    "long samples": ({"sample__tokens": 512}, f"{P}sample.tokens: 512: {LONG}"),
    "one item": ({"evaluate__limit": 1}, f"{P}evaluate.limit: 1: a standard error needs at least 2 items; 0 takes all"),
    "an unknown task": ({"benchmarks": {"mystery": LOCAL}},
        f"{P}benchmarks.mystery: unknown task; local items can be scored for {TASKS}"),
    "an unknown task in a package": ({"benchmarks": {"mystery": PACKAGE}},
        f"{P}benchmarks.mystery: unknown task; local items can be scored for {TASKS}"),
    "a wrong item": ({"benchmarks": {"openbookqa": LOCAL}},
        f"{P}benchmarks.openbookqa.path: items.jsonl:2: field 'question' is missing; it must be text (the item has "
        "choices, labels, answer)"),
    "no items": ({"benchmarks": {"openbookqa": LOCAL | {"path": "gone.jsonl"}}},
        f"{P}benchmarks.openbookqa.path: gone.jsonl: cannot be read: No such file or directory"),
    "no text": ({"domains": {"tales": LINES | {"path": "gone/*.txt"}}},
        f"{P}domains.tales.path: gone/*.txt: no such file"),
    "too few texts of its own": ({"sample__documents": 3}, f"{P}sample.documents: 3: texts of sample.tokens: 48 have at "
        "most 150 tokens, and corpus.calibration_sequences: 12 of corpus.sequence_length: 16 need 192; raise one of the "
        "first two, or lower one of the others"),
    "too few dialogues": ({"mixture__dialogues": 1.0, "sample__dialogues__count": 1, "sample__documents": 99,
                           "corpus__sequence_length": 64},
        f"{P}sample.dialogues.count: 1: dialogues of question.tokens: 128 and answer.tokens: 320 have, with their "
        "template, at most 648 tokens, and as many are read as of all 2 other domains, for which "
        "corpus.calibration_sequences: 12 of corpus.sequence_length: 64 need 1536; raise one of the first three, or "
        "lower one of the others"),
    "another field": ({"domains": {"tales": LINES | {"path": "items.jsonl", "reader": {"format": "jsonl",
                                                                                       "field": "body"}}}},
        f"{P}domains.tales.path: items.jsonl:1: no field 'body'; the line has question, choices, labels, answer"),
    "another column": ({"domains": {"tales": LINES | {"path": "items.jsonl", "reader": {"format": "csv",
                                                                                             "field": "body"}}}},
        f"{P}domains.tales.path: items.jsonl: no column 'body'; it has {', '.join(HEADER)}"),
    "no table": ({"domains": {"tales": LINES | {"path": "items.jsonl", "reader": {"format": "parquet",
                                                                                  "field": "body"}}}},
        f"{P}domains.tales.path: items.jsonl: not a Parquet file, or damaged: Parquet magic bytes not found in footer. "
        "Either the file is corrupted or this is not a parquet file.; write it again"),
    "a pipe for a model": ({"model__path": "pipe"}, f"{P}model.path: pipe: {PIPE}"),
    "a device for a model": ({"model__path": "/dev/null"}, f"{P}model.path: /dev/null: {DEVICE}"),
    "a pipe for text": ({"domains": {"tales": LINES | {"path": "pipe"}}}, f"{P}domains.tales.path: pipe: {PIPE}"),
    "a device for text": ({"domains": {"tales": LINES | {"path": "/dev/zero"}}},
        f"{P}domains.tales.path: /dev/zero: {DEVICE}"),
    "a pipe for items": ({"benchmarks": {"openbookqa": LOCAL | {"path": "pipe"}}},
        f"{P}benchmarks.openbookqa.path: pipe: {PIPE}"),
    "no vLLM": ({"sample__engine": "vllm"}, f"{P}sample.engine: vllm: {sys.executable} has no vLLM; {VLLM}"),
    "no Python of vLLM": ({"sample__engine": "vllm", "compute__vllm_python": "gone/python"},
        f"{P}compute.vllm_python: gone/python: cannot be run (No such file or directory); {VLLM}"),
    "no Python at all": ({"sample__engine": "vllm", "compute__vllm_python": "/bin/echo"},
        f"{P}compute.vllm_python: /bin/echo: not a Python of 3.10 or later; {VLLM}"),
    "colder than vLLM draws": ({"sample__engine": "vllm", "sample__temperature": 0.005},
        f"{P}sample.temperature: 0.005: sample.engine: vllm draws at 0.01 to 2.0; change it, or set the engine to ours"),
    "hotter than vLLM draws": ({"sample__engine": "vllm", "recover__own__temperature": 3.0},
        f"{P}recover.own.temperature: 3.0: sample.engine: vllm draws at 0.01 to 2.0; change it, or set the engine to ours"),
    "several devices for vLLM": ({"sample__engine": "vllm", "compute__device": "sharded"},
        f"{P}compute.device: sharded: sample.engine: vllm writes on one CUDA device or the CPU; name one of these, or set "
        "the engine to ours"),
    "no model": ({"model__path": "gone"}, f"{P}model.path: gone: no such file or directory"),
}  # fmt: skip


@pytest.mark.parametrize("command", [plan.main, model.main], ids=["plan", "model"])
@pytest.mark.parametrize("case", CASES)
def test_it_is_said_first(case: str, command: Any, here: Path, dense_dir: Path) -> None:
    changes, message = CASES[case]
    make_project(here, local_params(dense_dir, **changes))
    os.mkfifo("pipe")
    rows = [ITEM, {key: value for key, value in ITEM.items() if key != "question"}]
    Path("items.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert said(command) == message
    assert not (here / "data").exists()


def test_all_of_it_is_said_at_once(here: Path, dense_dir: Path) -> None:
    changes = {"domains": {"tales": LINES | {"path": "gone"}}, "benchmarks": {"mystery": LOCAL}}
    make_project(here, local_params(dense_dir, **changes))
    said_by_plan = invoke(plan.main, "--check", status=1).splitlines()
    assert [text.split(":")[1] for text in said_by_plan if text] == [" params.yaml", " benchmarks.mystery"]


def test_data_that_is_a_link_is_refused(
    tmp_path: Path, dense_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "disk").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    make_project(tmp_path / "project", local_params(dense_dir))
    Path("data").symlink_to(tmp_path / "disk")
    message = (
        f"data: a link to {tmp_path / 'disk'}, and DVC refuses outputs outside of the project; make it a folder, "
        "and put DVC's cache on the other disk: `dvc cache dir PATH` and `dvc config cache.type symlink`"
    )
    assert said(plan.main, "--check") == message
    assert said(model.main) == message


@pytest.mark.parametrize("command", [sample.main, own_text.main], ids=["sample", "own text"])
def test_a_vllm_that_is_not_there_is_missed_by_the_stages_that_write(
    command: Any, here: Path, dense_dir: Path
) -> None:
    changes = {
        "recover__own__dialogues": 0,
        "recover__mixture": {"calibration": 0.5, "plain": 0.5, "dialogues": 0.0},
    }
    make_project(here, local_params(dense_dir, **changes))
    invoke(model.main)
    write_params(here, local_params(dense_dir, **changes, sample__engine="vllm"))
    assert said(command) == f"{P}sample.engine: vllm: {sys.executable} has no vLLM; {VLLM}"
    assert not list(Path("data").glob("own/*"))
    assert not list(Path("data/sources").glob("self*"))


def test_a_tokenizer_beyond_the_embedding_is_refused(here: Path) -> None:
    make_tiny_model(vocab_size=200).save_pretrained("dense")
    make_tiny_tokenizer().save_pretrained("dense")
    make_project(here, local_params(Path("dense")))
    assert said(model.main) == (
        "tiny: its tokenizer has ids up to 257, and its embedding 200 rows; put the tokenizer there that the model "
        "was trained with"
    )


def test_a_chat_template_that_is_not_there_is_missed_at_once(here: Path, dense_dir: Path) -> None:
    make_project(here, local_params(dense_dir, evaluate__chat_template=True))
    assert said(model.main) == (
        f"{P}evaluate.chat_template: true: tiny has no chat template; set it to false, or take an instruct model"
    )


def test_an_added_token_beyond_the_embedding_is_refused_where_text_has_it(here: Path) -> None:
    make_tiny_model().save_pretrained("dense")
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained("dense")
    params = local_params(Path("dense"), mixture__self=0.0, benchmarks={})
    make_project(here, params)
    # Padding that no text has harms nobody.
    invoke_all((model.main,), (sources.main, "tales"), (sample.main,), (corpus.main,))
    Path("tales.txt").write_text(
        "\n".join(f"Tale {n} <pad> of a house by the river." for n in range(60)), encoding="utf-8"
    )
    invoke(sources.main, "tales")
    assert said(corpus.main) == (
        "data/model: its tokenizer makes '<pad>' of this text, id 258, and its embedding has 258 rows; put the "
        "tokenizer there that the model was trained with"
    )


def test_settings_that_change_later_are_refused_where_they_are_read(here: Path, dense_dir: Path) -> None:
    make_project(here, local_params(dense_dir))
    invoke(model.main)
    write_params(here, local_params(dense_dir, corpus__sequence_length=600, sample__documents=999))
    message = f"{P}corpus.sequence_length: 600: {LONG}"
    assert said(corpus.main) == message
    assert said(timings.main) == message


@pytest.mark.parametrize(
    ("stretched", "most"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}, 2048),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}, 512),
        ({"rope_type": "linear", "factor": 2.0}, 1024),
        ({"rope_type": "default"}, 512),
    ],
)
def test_a_stretched_context_counts_from_what_it_was_before(
    stretched: dict[str, Any], most: int, here: Path, dense_dir: Path
) -> None:
    shutil.copytree(dense_dir, "dense")
    change_json(Path("dense/config.json"), rope_parameters={"rope_theta": 10000.0} | stretched)
    make_project(here, local_params(Path("dense"), corpus__sequence_length=most, sample__documents=999))
    invoke(plan.main, "--check")
    make_project(here, local_params(Path("dense"), corpus__sequence_length=most + 1, sample__documents=999))
    assert said(plan.main, "--check") == (
        f"{P}corpus.sequence_length: {most + 1}: more than the {most} tokens that the model can read "
        "(max_position_embeddings); lower it"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recover__own__tokens": 512}, f"recover.own.tokens: 512: {LONG}"),
        ({"recover__own__plain": 0, "recover__on_policy__share": 0.5,
            "recover__mixture": {"calibration": 0.5, "plain": 0.0, "dialogues": 0.5}},
            f"recover.on_policy.tokens: 512: with sample.dialogues.question.tokens: 128: {LONG}"),
        ({"recover__own__plain": 0, "recover__abilities__questions": 4, "recover__abilities__tokens": 385,
            "recover__mixture": {"calibration": 0.5, "plain": 0.0, "dialogues": 0.5}},
            f"recover.abilities.tokens: 385: with sample.dialogues.question.tokens: 128: {LONG}"),
        ({"recover__teacher": "cached", "recover__cached__likeliest": 259, "recover__own__plain": 0},
            "recover.cached.likeliest: 259: the vocabulary has 258 tokens; at most as many"),
        ({"recover__weights": "routers", "recover__own__plain": 0},
            "recover.weights: routers: not for llama: no layer has experts that a router chooses among; choose "
            "scales, low_rank or all"),
        ({"recover__own__plain": 0, "sample__dialogues__question__tokens": 193},
            f"sample.dialogues.question.tokens: 193: with sample.dialogues.answer.tokens: 320: {LONG}"),
    ],
)  # fmt: skip
def test_a_recoverys_own_text_fits_the_context(
    changes: dict[str, Any], message: str, here: Path, dense_dir: Path
) -> None:
    shares = {"calibration": 1.0, "plain": 0.0, "dialogues": 0.0}
    dialogues = 4 if "recover__own__plain" in changes else 0
    make_project(
        here,
        local_params(
            dense_dir, **{"recover__mixture": shares, "recover__own__dialogues": dialogues} | changes
        ),
    )
    invoke(model.main)
    assert said(own_text.main) == P + message
    assert not Path("data/own").exists()
