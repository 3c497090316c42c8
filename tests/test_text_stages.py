"""The stages of the text side, one after the other, on tiny local inputs."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.text.vllm_installed import find_vllm
from stages import benchmarks, capture, corpus, mask, model, own_text, plan, recovery_corpus, sample, sources
from stages.common import own_writer
from stages.common.artifacts import read_documents, read_sequences, read_writers, read_written_by
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


@pytest.mark.vllm
def test_vllm_writes_both_texts_and_is_named_in_their_files_and_the_corpus(project: Project) -> None:
    if "VLLM_PYTHON" not in os.environ:
        pytest.skip("VLLM_PYTHON names no Python that has vLLM (`make vllm`)")
    changes = {
        "sample__engine": "vllm",
        "compute__vllm_python": os.environ["VLLM_PYTHON"],
        "mixture": {"tales": 1.0, "self": 1.0, "dialogues": 1.0},
        "recover__own__plain": 6,
        "recover__own__dialogues": 40,
        "recover__own__seed": 4,
        "recover__mixture": {"calibration": 0.4, "plain": 0.3, "dialogues": 0.3},
        "sample__dialogues__count": 60,
    }
    data = project(**changes) / "data"
    chat_tokenizer().save_pretrained("dense")
    # Attention of vLLM on CPUs takes heads of 32 numbers at least.
    make_tiny_model(hidden_size=128).save_pretrained("dense")
    make_project(Path(), local_params(Path("dense"), **SMALL | changes))
    plan_says = invoke(plan.main)
    version = find_vllm(os.environ["VLLM_PYTHON"]).version
    assert (
        f"text is written by vLLM {version} of {os.environ['VLLM_PYTHON']}, seed 0 (to recover" in plan_says
    )
    invoke_all((model.main,), (sources.main, "tales"))
    said = invoke(sample.main)
    assert re.search(
        rf"vLLM {version}: [\d,]+ of its tokens have a mean log-probability of -[\d.]+ nats; drawn", said
    )
    invoke_all((benchmarks.main,), (corpus.main,), (own_text.main,))
    facts = {"engine": "vLLM", "version": version, "seed": 0, "dtype": "float32"}
    for domain in ("self", "dialogues"):
        assert read_documents(data / f"sources/{domain}.parquet")
        assert read_written_by(data / f"sources/{domain}.parquet") == facts
    assert read_written_by(data / "sources/tales.parquet") == {}
    assert read_writers(data / "corpus/calibration.parquet") == {"self": facts, "dialogues": facts}
    assert len(read_documents(data / "own/plain.parquet")) == 6
    for kind in ("plain", "dialogues"):
        assert read_written_by(data / f"own/{kind}.parquet") == facts | {"seed": 4}
    invoke(recovery_corpus.main)
    own = dict.fromkeys(["own text", "own dialogues"], facts | {"seed": 4})
    assert read_writers(data / "corpus/recovery.parquet") == own | {"self": facts, "dialogues": facts}


@pytest.mark.vllm
def test_text_of_a_vllm_that_computes_another_model_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "VLLM_PYTHON" not in os.environ:
        pytest.skip("VLLM_PYTHON names no Python that has vLLM (`make vllm`)")
    changes = {"sample__engine": "vllm", "compute__vllm_python": os.environ["VLLM_PYTHON"]}
    data = project(**changes) / "data"
    make_tiny_tokenizer().save_pretrained("dense")
    make_tiny_model(hidden_size=128).save_pretrained("dense")
    make_project(Path(), local_params(Path("dense"), **SMALL | changes))
    invoke_all((model.main,), (sources.main, "tales"))
    # What it is given, and our own loop is not.
    shutil.copytree("dense", "other")
    make_tiny_model(hidden_size=128, seed=1).save_pretrained("other")
    start = own_writer.vllm_writer
    monkeypatch.setattr(own_writer, "vllm_writer", lambda found, _, *rest: start(found, Path("other"), *rest))
    assert "writes as another model than the dense one" in invoke(sample.main, status=1)
    assert not (data / "sources/self.parquet").exists()
