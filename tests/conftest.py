"""Fixtures of all tests, and how they are run.

What takes seconds to import is imported where it is used: pytest's first process reads this file before it
starts the others, and runs no test itself.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

    from tests.fresh import FreshProcesses

# How long an example takes depends on what else the machine does.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# The files that take longest. They start first, so that no process is left with one of them at the end.
LONG = (
    "test_rerun.py",
    "test_preset_runs.py",
    "test_notebook.py",
    "test_kills.py",
    "test_prune_stages.py",
    "test_in_process.py",
    "test_sweep.py",
    "test_experiments.py",
    "test_table.py",
    "test_hashes.py",
    "test_families.py",
    "test_api.py",
    "test_recover.py",
    "test_proof.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: code under test collects often, half a second each time.

    So does Python itself. What tests make is collected as ever.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which pip looks, and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tmp_path


@pytest.fixture
def tiny_model() -> "Callable[..., LlamaForCausalLM]":
    from tests.tiny import make_tiny_model

    return make_tiny_model


@pytest.fixture(scope="session")
def dense_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint of the tiny model, as data/model would hold it."""
    from tests.tiny import make_tiny_model, make_tiny_tokenizer

    directory = tmp_path_factory.mktemp("dense")
    make_tiny_model().save_pretrained(directory)
    make_tiny_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def fresh_processes(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[FreshProcesses]":
    from tests.fresh import FreshProcesses

    processes = FreshProcesses(tmp_path_factory.mktemp("fresh"), os.environ)
    yield processes
    processes.end()


@pytest.fixture
def quick_programs(fresh_processes: "FreshProcesses", monkeypatch: pytest.MonkeyPatch) -> None:
    """What this interpreter is asked to run forks from a process with the libraries imported: proofs that a
    checkpoint loads, programs of baselines, stages as processes of their own."""
    monkeypatch.setattr(sys, "executable", str(fresh_processes.python))


@pytest.fixture(scope="module")
def quick_dvc(fresh_processes: "FreshProcesses") -> "Iterator[None]":
    """In the made-up projects of a file `dvc` and `python` fork from such a process too."""
    from tests.project import ENVIRONMENT

    with pytest.MonkeyPatch.context() as patch:
        paths = f"{fresh_processes.python.parent}{os.pathsep}{ENVIRONMENT['PATH']}"
        patch.setitem(ENVIRONMENT, "PATH", paths)
        yield
