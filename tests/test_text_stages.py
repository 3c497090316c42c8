"""The stages of the text side, one after the other, on tiny local inputs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from secateurs.checkpoints.loading import load_model, load_tokenizer
from stages import benchmarks, capture, corpus, mask, model, own_text, recovery_corpus, sample, sources
from stages.common.artifacts import read_documents, read_sequences
from stages.rounds.captures import read_captures
from tests.bad_inputs.local import local_params, make_project
from tests.families.test_families import tiny
from tests.project import invoke, invoke_all, model_at, read_yaml
from tests.text.test_dialogues import chat_tokenizer
from tests.tiny import make_tiny_model, make_tiny_tokenizer

Project = Callable[..., Path]

SMALL = {
    **{"sample__documents": 20, "sample__tokens": 24, "sample__batch_size": 5},
    **{"recover__steps": 10, "recover__batch_size": 10, "recover__left_out": 1},
    **{"recover__own__plain": 0, "recover__own__dialogues": 0},
    "recover__mixture": {"calibration": 1.0, "plain": 0.0, "dialogues": 0.0},
}


@pytest.fixture
def project(here: Path, dense_dir: Path) -> Project:
    """Make a folder with params.yaml and local inputs, and go there; arguments as of `local_params`."""

    def make(**changes: Any) -> Path:
        make_project(here, local_params(dense_dir, **SMALL | changes))
        return here

    return make


TO_THE_CORPUS = (
    (model.main,),
    (sources.main, "tales"),
    (sample.main,),
    (benchmarks.main,),
    (corpus.main,),
)
FIRST_ROUND = ((capture.main, "r1"), (mask.main, "r1"))


def test_the_stages_lead_from_params_to_sequences(project: Project) -> None:
    data = project() / "data"
    invoke_all(*TO_THE_CORPUS)
    assert load_model(data / "model", "float32").config.num_hidden_layers == 3
    assert json.loads((data / "rounds/dense/history.json").read_text()) == []
    assert (data / "rounds/dense/masks.safetensors").exists()
    assert (data / "benchmarks/openbookqa.jsonl").read_bytes() == Path("quiz.jsonl").read_bytes()
    assert len(read_documents(data / "sources/tales.parquet")) == 50
    assert len(read_documents(data / "sources/self.parquet")) == 20
    calibration = read_sequences(data / "corpus/calibration.parquet")
    assert [item.domain for item in calibration] == ["tales"] * 12 + ["self"] * 12
    assert {item.domain for item in read_sequences(data / "corpus/heldout.parquet")} == {"tales"}
    assert load_tokenizer(data / "model").decode(calibration[0].input_ids).startswith("Tale ")
    metadata = json.loads(pq.read_schema(data / "corpus/calibration.parquet").metadata[b"corpus"])
    assert metadata["domains"]["tales"]["sequences"] == 12
    assert metadata["settings"]["sequence_length"] == 16
    invoke(own_text.main)
    output = invoke(recovery_corpus.main)
    rest = [item.domain for item in read_sequences(data / "corpus/recovery.parquet")]
    # Of a hundred draws each domain gets half, one more to round up, and one that is left out.
    assert rest == ["tales"] * 52 + ["self"] * 52
    assert "by domain tales 52, self 52" in output


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("olmo2", {"prune__sites": ["mlp", "attention"]}, "prune.sites: attention: not for olmo2: "),
        ("gpt_neox", {"prune__sites": ["query_heads"]}, "prune.sites: query_heads: not for gpt_neox: "),
        (
            "mixtral",
            {"prune__widths": "per_layer"},
            "prune.widths: per_layer: the experts of a layer must have one",
        ),
        (
            "qwen3_moe",
            {"prune__width_multiple": 12},
            "prune.width_multiple: 12: widths of experts must be multiples",
        ),
    ],
)
def test_what_a_family_cannot_be_pruned_by_is_refused_with_the_model(
    project: Project, tmp_path: Path, family: str, changes: dict[str, Any], message: str
) -> None:
    tiny(family).save_pretrained(tmp_path / "source")
    make_tiny_tokenizer().save_pretrained(tmp_path / "source")
    root = project(**{"model": model_at("source"), "prune__width_multiple": 8} | changes)
    assert f"Error: params.yaml: {message}" in invoke(model.main, status=1)
    assert not (root / "data").exists()


def test_a_domain_that_is_not_there_is_refused_without_a_trace(project: Project) -> None:
    root = project()
    output = invoke(sources.main, "fables", status=1)
    assert output == "Error: params.yaml: domains.fables: no such domain; there are tales\n"
    assert not (root / "data").exists()


def test_a_source_without_text_is_refused_without_a_trace(project: Project) -> None:
    root = project()
    (root / "tales.txt").write_text("\n\n")
    assert "domains.tales: no text in its files" in invoke(sources.main, "tales", status=1)
    assert not (root / "data").exists()


def test_the_corpus_needs_the_stages_before_it(project: Project) -> None:
    project()
    invoke(model.main)
    output = invoke(corpus.main, status=1)
    assert output == "Error: data/sources/tales.parquet: not found; run `dvc repro`\n"


def test_own_text_that_does_not_count_is_neither_made_nor_missed(project: Project) -> None:
    # Three documents of one token each would be too little.
    data = project(mixture__self=0.0, sample__documents=3, sample__tokens=1) / "data"
    invoke_all(*TO_THE_CORPUS, *FIRST_ROUND)
    assert read_documents(data / "sources/self.parquet") == []
    assert read_documents(data / "sources/dialogues.parquet") == []
    assert {item.domain for item in read_sequences(data / "corpus/calibration.parquet")} == {"tales"}
    (entry,) = json.loads((data / "rounds/r1/history.json").read_text(encoding="utf-8"))
    assert list(entry["loss"]) == ["tales"]


def test_dialogues_are_written_marked_and_counted_by_their_answers(project: Project, tmp_path: Path) -> None:
    make_tiny_model().save_pretrained(tmp_path / "chatty")
    chat_tokenizer().save_pretrained(tmp_path / "chatty")
    small = read_yaml()["sample"]["dialogues"] | {
        "count": 60,
        "requests": ["Ask!", ""],
        "question": {"tokens": 60, "temperature": 1.0, "min_p": 0.0},
        "answer": {"tokens": 200, "temperature": 1.0, "min_p": 0.0},
    }
    data = project(model=model_at("chatty"), mixture__dialogues=2.0, sample__dialogues=small) / "data"
    invoke_all(*TO_THE_CORPUS, *FIRST_ROUND)
    rows = read_sequences(data / "corpus/calibration.parquet")
    assert [row.domain for row in rows] == ["tales"] * 12 + ["self"] * 12 + ["dialogues"] * 24
    assert all(bool(row.answers) == (row.domain == "dialogues") for row in rows)
    captures = read_captures(data / "rounds/r1/statistics.safetensors")
    assert {domain: (one.sequences, one.answers) for domain, one in captures.items()} == {
        "tales": (5, False),
        "self": (5, False),
        "dialogues": (10, True),
    }
    (entry,) = json.loads((data / "rounds/r1/history.json").read_text(encoding="utf-8"))
    assert list(entry["loss"]) == ["tales", "self", "dialogues"]


def test_dialogues_of_a_model_without_a_template_are_refused_without_a_trace(project: Project) -> None:
    root = project(mixture__dialogues=1.0)
    invoke(model.main)
    output = invoke(sample.main, status=1)
    assert "Error: data/model: its tokenizer has no chat template for a question" in output
    assert output.endswith("; set mixture.dialogues: 0\n")
    assert not (root / "data/sources").exists()
