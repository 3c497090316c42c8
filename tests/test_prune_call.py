"""`secateurs.prune(...)` of Python, which does what `secateurs prune` does."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

import secateurs
from secateurs.cli import main
from secateurs.errors import InputError, SettingError
from tests.pages import TEXTS, blocks
from tests.project import ROOT, invoke, text
from tests.test_command import FEW
from tests.tiny import make_tiny_model

WORDS = {"surgery.sequences": 4, "surgery.choice_sequences": 1, "capture.sequences": 2}


@pytest.fixture
def pages(here: Path, dense_dir: Path) -> Path:
    shutil.copytree(dense_dir, here / "my-llama")
    (here / "docs").mkdir()
    for number, page in enumerate(text(11).splitlines()):
        (here / "docs" / f"{number}.md").write_text(page, encoding="utf-8")
    return here


@pytest.mark.usefixtures("quick_programs")
def test_it_writes_the_bytes_that_the_command_writes(pages: Path) -> None:
    said: list[str] = []
    settings = {**WORDS, "prune.width_multiple": 8}
    done = secateurs.prune(
        "my-llama", "docs", pages / "called", sparsity=0.15, device="cpu", tokens=24, settings=settings,
        say=said.append,
    )  # fmt: skip
    arguments = ["--text", "docs", "--sparsity", "0.15", "--out", "typed", "--set", "prune.width_multiple=8"]
    printed = invoke(main, "prune", "my-llama", *arguments, *FEW).splitlines()
    called, typed = ({file.name: file.read_bytes() for file in (pages / name).iterdir()} for name in ("called", "typed"))  # fmt: skip  # noqa: E501
    assert called == typed
    assert said[-1] == printed[-1]
    assert done.out == pages / "called"
    assert done.gguf is None
    assert done.facts.parameters[1] == AutoModelForCausalLM.from_pretrained("called").num_parameters()
    # A module of the package that has the function's name would have taken its place by now.
    assert callable(secateurs.prune)


@pytest.mark.usefixtures("quick_programs")
def test_the_call_in_the_docs_runs_as_it_stands_there(pages: Path) -> None:
    # Wide enough that a fifth can go in steps of 32 channels.
    make_tiny_model(intermediate_size=128).save_pretrained("my-llama")
    (pages / "manual").mkdir()
    for page in ("method", "recipes", "families", "checkpoints", "trust"):
        shutil.copy(ROOT / f"docs/{page}.md", pages / "manual")
    parts = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n- ")
    (pages / "tickets.jsonl").write_text("\n".join(json.dumps({"body": part}) for part in parts))
    exec(blocks(TEXTS["docs/python.md"], "python")[0], {})
    dense, small = (AutoModelForCausalLM.from_pretrained(name) for name in ("my-llama", "small"))
    assert small.config.intermediate_size < dense.config.intermediate_size


def test_what_cannot_be_used_is_an_error_and_nothing_is_written(pages: Path) -> None:
    with pytest.raises(SettingError, match=r"mask\.metrics: unknown key"):
        secateurs.prune("my-llama", "docs", "small", settings={"mask.metrics": "wanda"})
    with pytest.raises(InputError, match="--out: docs: is there already"):
        secateurs.prune("my-llama", "docs", "docs")
    with pytest.raises(InputError, match=r"domains\.none\.path: none\.txt: no such file"):
        secateurs.prune("my-llama", Path("none.txt"), "small")
    assert not (pages / "small").exists()


def test_the_package_is_imported_without_torch() -> None:
    program = "import sys, secateurs; secateurs.prune; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_it_has_the_method_alone_and_nothing_else() -> None:
    assert secateurs.prune_model.__module__ == "secateurs.pruner"
    with pytest.raises(AttributeError, match="has no attribute 'prunes'"):
        secateurs.prunes  # noqa: B018
