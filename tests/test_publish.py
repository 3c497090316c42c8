from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from stages.publish import main
from tests.project import invoke, lines_of, model_at, read_yaml, write_params
from tests.stages.reporting.evidence import DOMAINS, write_evidence
from tests.stages.reporting.test_evaluated_card import BEFORE


@pytest.fixture
def project(here: Path) -> Path:
    params = read_yaml()
    # The made-up rounds end with the second.
    params["rounds"] = {"r1": {"after": "dense", "progress": 0.5}, "r2": {"after": "r1", "progress": 1.0}}
    params["surgery"]["after"] = "r2"
    write_params(here, params)
    write_evidence(here / "data")
    pruned = here / "data/pruned"
    pruned.mkdir()
    (pruned / "README.md").write_text(BEFORE, encoding="utf-8")
    (pruned / "model.safetensors").write_bytes(b"weights")
    return here


def test_the_folder_for_the_hub_has_the_weights_and_the_figures(project: Path) -> None:
    invoke(main, "pruned")
    published = project / "data/published/pruned"
    assert (published / "model.safetensors").read_bytes() == b"weights"
    card = ModelCard.load(published / "README.md")
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert len(card.data.eval_results) == 4
    # The pruned checkpoint, which the evaluations depend on, stays as it was.
    assert (project / "data/pruned/README.md").read_text(encoding="utf-8") == BEFORE


def test_no_path_of_this_machine_is_published(project: Path) -> None:
    params = read_yaml(project / "params.yaml")
    params["model"] = model_at(project / "models/mine")
    params["domains"] = {name: lines_of(str(project / f"{name}.txt")) for name in DOMAINS}
    params["mixture"] = dict.fromkeys([*DOMAINS, "self"], 1.0) | {"dialogues": 0.0}
    write_params(project, params)
    invoke(main, "pruned")
    text = (project / "data/published/pruned/README.md").read_text(encoding="utf-8")
    assert str(project) not in text
    data_sets = [one.dataset_type for one in ModelCard(text).data.eval_results]
    assert data_sets[:2] == ["code.txt", "news.txt"]


def test_a_checkpoint_without_a_card_is_named(project: Path) -> None:
    (project / "data/pruned/README.md").unlink()
    assert "README.md: not found; run `dvc repro`" in invoke(main, "pruned", status=1)
