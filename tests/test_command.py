"""`secateurs prune`: from a model and files of text to a checkpoint that stock software loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateurs.checkpoints.saving import save_model
from secateurs.cli import main
from secateurs.gguf.converter import VARIABLE
from secateurs.order import model_source
from secateurs.settings.sources import PathModel
from secateurs.text.documents import Sequence
from stages import portability
from stages.common.artifacts import write_sequences
from tests.families.test_families import tiny
from tests.project import ROOT, invoke, text
from tests.test_export import CONVERTER, NEEDS_CONVERTER, QWEN2_WORDS, TEXT, trained_tokenizer

FEW = ["--tokens", "24", "--device", "cpu"]
FEW += ["--set", "surgery.sequences=4", "--set", "surgery.choice_sequences=1", "--set", "capture.sequences=2"]


@pytest.fixture
def tickets(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(CONVERTER))
    lines = (json.dumps({"body": line}) for line in text(3).splitlines())
    (here / "tickets.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (here / "docs").mkdir()
    for number, page in enumerate(text(11).splitlines()):
        (here / "docs" / f"{number}.md").write_text(page, encoding="utf-8")
    (here / "taken.gguf").touch()
    return here


def run(*arguments: str) -> str:
    return invoke(main, "prune", *arguments)


@pytest.mark.usefixtures("quick_programs")
@NEEDS_CONVERTER
def test_a_folder_and_tickets_become_a_smaller_checkpoint_and_a_gguf(dense_dir: Path, tickets: Path) -> None:
    said = run(
        str(dense_dir), "--text", "tickets.jsonl:body", "--text", "docs", "--sparsity", "0.2",
        "--export", "f16", "--out", "small", "--set", "prune.width_multiple=8", *FEW,
    )  # fmt: skip
    dense, small = (AutoModelForCausalLM.from_pretrained(path) for path in (dense_dir, tickets / "small"))
    assert small.config.intermediate_size < dense.config.intermediate_size
    tokenizer = AutoTokenizer.from_pretrained(tickets / "small")
    ids = torch.tensor([tokenizer("channel prune")["input_ids"]])
    assert small(ids).logits.shape[-1] == dense.config.vocab_size
    written = gguf.GGUFReader(tickets / "small.gguf")
    width = written.fields["llama.feed_forward_length"].contents()
    assert width == small.config.intermediate_size
    first, *_ = said.splitlines()
    assert first == f"{dense_dir} is pruned by tickets, docs into small …"
    assert "20% goes over 3 rounds" in said
    assert said.splitlines()[-1]
    card = (tickets / "small/README.md").read_text(encoding="utf-8")
    assert "of the decoder's parameters removed by Secateurs in 3 rounds (`taylor`)" in card
    assert str(tickets) not in card


@pytest.mark.usefixtures("quick_programs")
def test_more_than_was_asked_for_is_said_before_it_goes(dense_dir: Path, tickets: Path) -> None:
    arguments = ["--text", "docs", "--sparsity", "0.05", "--out", "small", "--set", "prune.width_multiple=16"]
    lines = run(str(dense_dir), *arguments, *FEW).splitlines()
    (warning,) = (number for number, line in enumerate(lines) if line.startswith("Warning"))
    assert "prune.width_multiple: 16: whole steps take 19.8% of the decoder's parameters" in lines[warning]
    assert warning < lines.index("r1 …")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--text", "tickets.jsonl", "--out", "small"], "--text: tickets.jsonl: which field holds the text?"),
        (["--text", "docs:body", "--out", "small"], "--text: docs:body: only .jsonl, .csv and .parquet"),
        (["--text", "none.txt", "--out", "small"], "domains.none.path: none.txt: no such file"),
        (["--text", "docs", "--out", "docs"], "--out: docs: is there already; name another folder"),
        (
            ["--text", "docs", "--out", "small", "--sparsity", "2"],
            "sparsity: 2.0: Input should be less",
        ),
        (["--text", "docs", "--out", "small", "--set", "prune"], "--set: prune: write KEY=VALUE"),
        (["--text", "docs", "--out", "small", "--set", "mask.metrics=wanda"], "mask.metrics: unknown key"),
        (["--text", "docs", "--out", "small", "--tokens", "2048"], "--text: corpus."),
        (
            ["--text", "docs", "--out", "small", "--export", "q9"],
            "--export: q9: no such precision; there are f32, f16,",
        ),
        (
            ["--text", "docs", "--out", "taken", "--export", "f16"],
            "--export: taken.gguf: is there already; name another --out, or delete it",
        ),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_written(
    arguments: list[str], said: str, dense_dir: Path, tickets: Path
) -> None:
    assert said in invoke(main, "prune", str(dense_dir), *arguments, status=1)
    assert not (tickets / "small").exists()


@pytest.mark.parametrize(
    "model",
    ["./none", "/none", "models/of/mine", "none.gguf", "~/none", "a b", "", "a\x1b[31m", "d\xe9"],
)
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(model: str, tickets: Path) -> None:
    arguments = ["--text", "docs", "--out", "small"]
    said = f"Error: model: {model!r}: no such file or folder, and no id on the hub, like OWNER/NAME"
    assert said in invoke(main, "prune", model, *arguments, status=1)


def test_a_word_that_is_no_folder_names_both_that_it_could_be(tickets: Path) -> None:
    command = [sys.executable, "-m", "secateurs.cli", "prune", "gpt2", "--text", "docs", "--out", "small"]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tickets / "hub"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=offline, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "Error: model.id: gpt2: no folder here has this name, and the hub cannot be reached, nor does its "
        "cache have it; give the path of a folder, or connect\n",
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [("Qwen2.5-0.5B", "Qwen2.5-0.5B"), ("Qwen2.5-0.5B/.", "Qwen2.5-0.5B"), ("m-1.5b.gguf", "m-1.5b")],
)
def test_a_model_is_called_as_its_folder_or_file(path: str, name: str, here: Path) -> None:
    Path("Qwen2.5-0.5B").mkdir()
    Path("m-1.5b.gguf").touch()
    assert model_source(path).name == name


def test_the_folder_where_one_is_can_be_the_model(here: Path) -> None:
    source = model_source(".")
    assert isinstance(source, PathModel)
    assert source.name == here.name


def by_the_wheel(folder: Path, *arguments: str) -> str:
    """What the program of the built wheel, installed in `folder`/site alone, prints to stdout."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheel", str(ROOT)]
    subprocess.run(wheel, cwd=folder, check=True, capture_output=True)
    (built,) = (folder / "wheel").glob("secateurs-*.whl")
    install = [*pip, "install", "--no-deps", "--target", "site", str(built)]
    subprocess.run(install, cwd=folder, check=True, capture_output=True)
    program = "import sys, pathlib, secateurs; sys.argv[0] = 'secateurs'; from secateurs.cli import main; "
    program += "assert 'site' in pathlib.Path(secateurs.__file__).parts; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "prune", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "site"), "PATH": "", VARIABLE: str(CONVERTER)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_alone_does_it_outside_of_a_clone(dense_dir: Path, tickets: Path) -> None:
    by_the_wheel(
        tickets, str(dense_dir), "--text", "docs", "--out", "small", "--set", "prune.width_multiple=8", *FEW
    )
    assert AutoModelForCausalLM.from_pretrained(tickets / "small").config.intermediate_size < 48


@pytest.mark.portability
def test_a_folder_and_tickets_end_in_llama_cpp_by_three_commands(
    tickets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Install, prune with --export, run: llama.cpp reads the file and says what transformers says.
    save_model(tiny("qwen2", vocab_size=320), tickets / "model")
    trained_tokenizer(QWEN2_WORDS).save_pretrained(tickets / "model")
    by_the_wheel(
        tickets, "model", "--text", "tickets.jsonl:body", "--out", "small", "--export", "f16",
        "--set", "prune.width_multiple=8", *FEW,
    )  # fmt: skip
    ids = AutoTokenizer.from_pretrained(tickets / "small")(TEXT)["input_ids"]
    write_sequences(tickets / "heldout.parquet", [Sequence("d", ("d",), tuple(ids))], {})
    monkeypatch.setattr(portability, "HELDOUT", tickets / "heldout.parquet")
    python = ("--python", os.environ["LLAMA_CPP_PYTHON"])
    invoke(portability.main, *python, "--checkpoint", "small", "--gguf", "small.gguf")
