"""The program of docs/python.md, run as it stands there, with the project installed and nothing around it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from secateurs.families.decoder import decoder_parameters
from secateurs.settings.method import settings_of
from tests.pages import TEXTS, blocks
from tests.project import ROOT
from tests.tiny import make_tiny_model, make_tiny_tokenizer


def program() -> str:
    return blocks(TEXTS["docs/python.md"], "python")[1]


def test_the_settings_it_shows_are_taken() -> None:
    shown = blocks(TEXTS["docs/python.md"], "python")[2].splitlines()
    taken = [eval(line, {"settings_of": settings_of}) for line in shown]
    assert taken[0].prune.sparsity == 0.3
    assert taken[1].prune.sparsity is None
    assert list(taken[1].rounds) == ["r1", "r2"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as pip installs it, from a copy, because building leaves files in the source."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "secateurs", source / "secateurs", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    return site


def test_it_has_no_more_than_15_lines_of_code() -> None:
    assert len([line for line in program().splitlines() if line.strip()]) <= 15


def test_the_program_prunes_a_model_of_ones_own(installed: Path, tmp_path: Path) -> None:
    dense = make_tiny_model(intermediate_size=320)
    dense.save_pretrained(tmp_path / "mine")
    make_tiny_tokenizer().save_pretrained(tmp_path / "mine")
    (tmp_path / "text").mkdir()
    for page in ("README.md", "docs/recipes.md"):
        shutil.copy(ROOT / page, tmp_path / "text" / f"{Path(page).stem}.txt")
    lines = program().splitlines()
    (named,) = [number for number, line in enumerate(lines) if line.startswith("MODEL = ")]
    lines[named] = 'MODEL = "mine"'
    (tmp_path / "program.py").write_text("\n".join(lines), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["r1", "r2", "r3", "surgery"]
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned")
    assert isinstance(pruned, LlamaForCausalLM)
    assert 0.2 <= 1 - decoder_parameters(pruned) / decoder_parameters(dense) < 0.3
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "pruned")
    with torch.no_grad():
        logits = pruned(torch.tensor([tokenizer("It loads.")["input_ids"]])).logits
    assert torch.isfinite(logits).all()


def test_what_is_installed_is_what_the_program_imports(installed: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import secateurs.pruner as module; print(module.__file__)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == installed / "secateurs/pruner.py"
