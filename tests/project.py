"""What tests build projects of: params.yaml, text, models and rounds on disk; commands in a project."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from click import Command
from click.testing import CliRunner
from ruamel.yaml import YAML
from transformers import PreTrainedModel

from secateurs.files.json_file import write_json
from secateurs.kinds.sites import all_kept_masks
from secateurs.settings.sources import PathModel
from secateurs.text.documents import Sequence
from stages.params.overlay import whole_preset
from stages.rounds.tensors import write_masks, write_scores

ROOT = Path(__file__).parent.parent
PARAMS = ROOT / "params.yaml"
# All modules of the project.
MODULES = sorted(
    file for package in ("secateurs", "stages", "lab") for file in (ROOT / package).rglob("*.py")
)
BINARIES = Path(sys.executable).parent
# What the model card says of a model that tests make up: the keys of `model` besides its source.
LABEL = {"name": "tiny", "licence": "none", "base_model": None}
# For git and DVC in a project of a test's own.
ENVIRONMENT = {
    "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    "GIT_AUTHOR_NAME": "Tester",
    "GIT_AUTHOR_EMAIL": "tester@example.org",
    "GIT_COMMITTER_NAME": "Tester",
    "GIT_COMMITTER_EMAIL": "tester@example.org",
    "DVC_NO_ANALYTICS": "1",
}
# What a make that runs the tests hands down to another one, which would then print where it works, too.
FROM_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "GNUMAKEFLAGS")
# Of params.yaml, for a tiny model and rounds on a few short sequences.
TINY: dict[str, Any] = {
    "corpus.sequence_length": 24,
    "corpus.calibration_sequences": 4,
    "capture.sequences": 2,
    "surgery.sequences": 3,
    "surgery.choice_sequences": 1,
    "prune.width_multiple": 1,
    "domains": {"news": {"source": "path", "path": "*", "reader": {"format": "text"}, "documents": 1}},
    "mixture": {"news": 2.0, "self": 1.0, "dialogues": 0.0},
}
WORDS = ["channel", "prune", "mask", "heal", "round", "corpus", "sample", "metric", "weight", "layer", "leaf"]


def run_make(*arguments: str) -> str:
    """What `make ARGUMENTS` prints in the project itself, whoever runs the tests."""
    environment = {name: value for name, value in os.environ.items() if name not in FROM_MAKE}
    command = ["make", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def under_torchrun(processes: int, *program: str) -> str:
    """What a program prints under torchrun, in so many processes of one thread each that talk over Gloo."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *program]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launch], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_yaml(path: Path = PARAMS) -> dict[str, Any]:
    """A YAML file as plain mappings; the project's own params.yaml by default."""
    data: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return data


def params_file(name: str, directory: Path) -> Path:
    """The project's own params.yaml by the name of `params`; otherwise a preset, laid over it in a file."""
    if name == PARAMS.stem:
        return PARAMS
    file = directory / f"{name}.yaml"
    file.write_text(whole_preset(name, PARAMS.read_text(encoding="utf-8")), encoding="utf-8")
    return file


def change_json(path: Path, **changes: Any) -> None:
    """Change entries of a JSON object in a file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def change(params: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Make `a.b.c: value` changes in place; a value of ... deletes the key. Returns the params."""
    for key, value in changes.items():
        *groups, last = key.split(".")
        target = params
        for group in groups:
            target = target[group]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return params


def write_params(directory: Path, params: dict[str, Any]) -> Path:
    """Write `directory`/params.yaml; its path."""
    path = directory / "params.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(params, file)  # keys in their order
    return path


def model_at(path: Path | str) -> dict[str, Any]:
    """The group `model` for a checkpoint on disk."""
    return {"source": "path", "path": str(path), **LABEL}


def path_model(path: Path) -> PathModel:
    """The same as settings."""
    return PathModel.model_validate(model_at(path))


def lines_of(path: str, documents: int = 60) -> dict[str, Any]:
    """A domain whose documents are the lines of a local file."""
    return {"source": "path", "path": path, "reader": {"format": "lines"}, "documents": documents}


def text(seed: int, documents: int = 60) -> str:
    """Lines of text that differ between seeds and have no 13-gram in common."""
    return "\n".join(
        " ".join(
            f"{WORDS[(seed + line * 7 + word * (line % 5 + 1)) % len(WORDS)]}{line * word % 17}"
            for word in range(30)
        )
        for line in range(documents)
    )


def random_sequences(
    domains: Iterable[str], length: int, generator: torch.Generator, lowest: int = 0
) -> list[Sequence]:
    """Four sequences of the tiny tokenizer's ids for each domain; `lowest` 2 leaves out BOS and EOS."""
    return [
        Sequence(name, ("d",), tuple(torch.randint(lowest, 258, (length,), generator=generator).tolist()))
        for name in domains
        for _ in range(4)
    ]


def write_dense_round(directory: Path, model: PreTrainedModel) -> None:
    """Write data/rounds/dense of a project as the model stage does."""
    dense, masks = directory / "data/rounds/dense", all_kept_masks(model)
    write_masks(dense / "masks.safetensors", masks)
    write_scores(dense / "scores.safetensors", {name: 0.0 * mask for name, mask in masks.items()})
    write_json(dense / "history.json", [])


def run(directory: Path, *command: str, status: int = 0, **environment: str) -> str:
    """What a command prints to stdout and stderr in a project; it must end with `status`."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def invoke(command: Command, *arguments: str, status: int = 0) -> str:
    """What a stage or a tool prints to stdout and stderr, run in this process; it must end with `status`."""
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def invoke_all(*stages: tuple[Any, ...]) -> None:
    """Each stage with its arguments, one after the other; all must succeed."""
    for command, *arguments in stages:
        invoke(command, *arguments)


def commit_all(directory: Path, message: str) -> None:
    """Commit everything that is there."""
    run(directory, "git", "add", "--all")
    run(directory, "git", "commit", "--quiet", "--message", message)
