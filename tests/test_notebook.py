"""docs/prune.ipynb, run from beginning to end in a process of its own."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.project import ROOT

FILE = ROOT / "docs/prune.ipynb"


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_committed_as_one_run_left_it_and_small() -> None:
    cells = code(nbformat.read(FILE, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    shown = [one for cell in cells for one in cell.outputs]
    assert sum("image/png" in one.get("data", {}) for one in shown) == 2
    assert all(one.get("name") != "stderr" and one.output_type != "error" for one in shown)
    assert FILE.stat().st_size < 150_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The cells of code with what they left."""
    # The kernel imports the code of this clone, and Jupyter's own files stay out of the home directory.
    environment = os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path_factory.mktemp("runtime"))}
    notebook = nbformat.read(FILE, as_version=4)
    client = NotebookClient(
        notebook, timeout=1800, startup_timeout=600, resources={"metadata": {"path": str(FILE.parent)}}
    )
    client.execute(env=environment)
    return code(notebook)


def printed(cells: list[Any]) -> str:
    return "".join(one.text for cell in cells for one in cell.outputs if one.output_type == "stream")


@pytest.mark.slow
def test_it_prunes_a_fifth_of_the_default_models_decoder(run: list[Any]) -> None:
    text = printed(run)
    assert "r1\nr2\nsurgery\n" in text
    assert "134,515,008 parameters became 113," in text or "134,515,008 parameters became 112," in text


@pytest.mark.slow
def test_it_shows_two_pictures(run: list[Any]) -> None:
    shown = [one for cell in run for one in cell.outputs if "image/png" in one.get("data", {})]
    assert len(shown) == 2


@pytest.mark.slow
def test_both_models_answer(run: list[Any]) -> None:
    text = printed(run[-1:])
    assert "Paris" in text.partition("pruned: ")[0]
    assert text.partition("pruned: ")[2].strip()


@pytest.mark.slow
def test_running_it_leaves_nothing_in_the_clone(run: list[Any]) -> None:
    assert not list(Path(FILE.parent).glob(".ipynb_checkpoints"))
