"""What params.yaml holds is checked before a shell or another program sees any of it: through real DVC."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from secateurs.errors import InputError
from stages.common.dvc import key_of_stage
from stages.params.file import read_params
from tests.project import ROOT, change, read_yaml, run, write_params
from tests.test_dvc_yaml import stages_of_dvc_yaml

WORDS = "x; touch planted;"
TWO = "python -m torch.distributed.run --standalone --nproc-per-node 2"


def write(directory: Path, changes: dict[str, Any]) -> Path:
    """The default params with `a.b.c: value` changes; domains and rounds by any name."""
    params = read_yaml()
    for key, value in changes.items():
        if key.startswith("domains."):
            params["domains"][key.removeprefix("domains.")] = value
        else:
            params = change(params, {key: value})
    return write_params(directory, params)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own dvc.yaml and code, under DVC."""
    directory = tmp_path_factory.mktemp("project")
    for package in ("secateurs", "stages"):
        shutil.copytree(ROOT / package, directory / package)
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, directory / name)
    for program in ("git", "dvc"):
        run(directory, program, "init", "--quiet")
    return directory


@pytest.mark.parametrize(
    ("changes", "target", "said"),
    [
        ({f"domains.{WORDS}": {}}, f"sources@{WORDS}", f"params.yaml: domains.{WORDS}"),
        ({"compute.launch": "touch planted; python"}, "sources@news", "params.yaml: compute.launch: "),
        (
            {"rounds": {WORDS: {"after": "dense", "progress": 1.0}}},
            f"capture@{WORDS}",
            f"params.yaml: rounds.{WORDS}",
        ),
    ],
)
def test_nothing_of_params_reaches_the_shell(
    project: Path, changes: dict[str, Any], target: str, said: str
) -> None:
    write(project, changes)
    for name in ("data/model/config.json", "data/corpus/calibration.parquet", "data/kinds.json"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("", encoding="utf-8")
    masks = project / "data/rounds/dense/masks.safetensors"
    masks.parent.mkdir(parents=True, exist_ok=True)
    masks.write_text("", encoding="utf-8")
    output = run(project, "dvc", "repro", "--single-item", target, status=255)
    assert "Running stage" in output
    assert said in output
    assert not (project / "planted").exists()


def test_no_command_holds_anything_of_params() -> None:
    groups = list(read_yaml())
    for name, stage in stages_of_dvc_yaml().items():
        command = str(stage["cmd"])
        # `foreach` over something that dvc.yaml itself lists may stand in a command.
        assert command.startswith("python -m stages."), name
        assert "${" not in command or name in {"perplexity", "tasks", "cost"}, name
        assert not any(f"${{{group}" in command for group in groups), name


@pytest.mark.parametrize(
    "launch",
    [
        "touch planted; python",
        "python; touch planted",
        "python -c pass",
        "python -m torch.distributed.run planted.py",
        "python -m torch.distributed.run --no-python touch",
        "python -m torch.distributed.run --nproc-per-node --no-python",
        "python -m torch.distributed.run --standalone\ntouch planted",
        "python -m torch.distributed.run --log-dir=..",
    ],
)
def test_a_launcher_is_nothing_but_torchrun_and_its_numbers(tmp_path: Path, launch: str) -> None:
    with pytest.raises(InputError, match=r"compute\.launch: "):
        read_params(write(tmp_path, {"compute.launch": launch}))


@pytest.mark.parametrize(
    "launch",
    ["python", TWO, f"{TWO} --rdzv_backend=c10d --rdzv-endpoint host-1:29400 --nnodes=1:4"],
)
def test_the_launchers_of_the_readme_are_taken(tmp_path: Path, launch: str) -> None:
    assert read_params(write(tmp_path, {"compute.launch": launch})).compute.launch == launch


def test_a_stage_has_its_key_from_dvc_or_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "stages/some/dvc.yaml:capture@r2")
    assert key_of_stage(None, "ROUND") == "r2"
    assert key_of_stage("r3", "ROUND") == "r3"
    monkeypatch.delenv("DVC_STAGE")
    with pytest.raises(InputError, match="ROUND: not given"):
        key_of_stage(None, "ROUND")
