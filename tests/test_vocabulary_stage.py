"""The stage vocabulary, and what surgery and perplexity make of its choice, through their files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateurs.settings.recovery import OWN_KINDS
from secateurs.text.documents import Document
from stages import capture, corpus, mask, perplexity, recover, surgery, vocabulary
from stages.common.artifacts import read_sequences, write_documents, write_sequences
from stages.common.paths import CALIBRATION, MODEL, RECOVERY_TEXT
from tests.project import change, invoke, invoke_all, read_yaml, write_dense_round, write_params
from tests.tiny import make_tiny_model
from tests.vocabulary.small import TEXT, byte_level

ROWS = 384
ROUNDS = [(stage, name) for name in ("r1", "r2", "r3") for stage in (capture.main, mask.main)]
CHANGES: dict[str, Any] = {
    "corpus.sequence_length": 24,
    "corpus.ngram": 30,
    "corpus.calibration_sequences": 4,
    "corpus.heldout_sequences": 2,
    "capture.sequences": 2,
    "surgery.sequences": 3,
    "surgery.choice_sequences": 1,
    "prune.width_multiple": 1,
    "prune.vocabulary": {"rows": ROWS, "keep": [], "leave": ["Han"]},
    "domains": {"news": {"source": "path", "path": "*", "reader": {"format": "text"}, "documents": 1}},
    "benchmarks": {},
    "mixture": {"news": 1.0, "self": 0.0, "dialogues": 0.0},
}


@pytest.fixture
def project(here: Path) -> Callable[..., Path]:
    """A directory as the stages up to `sample` leave it; its model has more rows than tokens."""

    def make(**changes: Any) -> Path:
        write_params(here, change(read_yaml(), CHANGES | changes))
        tokenizer = byte_level()
        model = make_tiny_model(
            vocab_size=512, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
        )
        model.save_pretrained(MODEL)
        tokenizer.save_pretrained(MODEL)
        words = TEXT[0].split()
        texts = [" ".join(words[number % 7 :] + words[: number % 7]) + f" {number}" for number in range(60)]
        write_documents(
            here / "data/sources/news.parquet",
            [Document(str(number), text) for number, text in enumerate(texts)],
        )
        for domain in ("self", "dialogues"):
            write_documents(here / f"data/sources/{domain}.parquet", [])
        write_dense_round(here, model)
        return here

    return make


@pytest.mark.usefixtures("quick_programs")
def test_a_model_pruned_of_channels_and_tokens_is_saved_and_scored_on_the_same_text(project) -> None:
    directory = project()
    invoke(corpus.main)
    said = invoke(vocabulary.main)
    assert f"{ROWS} of 512 rows stay; held-out text has 1.0" in said
    invoke_all(*ROUNDS, (surgery.main,))
    model = AutoModelForCausalLM.from_pretrained("data/pruned")
    tokenizer = AutoTokenizer.from_pretrained("data/pruned")
    kept = json.loads((directory / "data/vocabulary.json").read_text())["kept"]
    assert len(kept) == len(tokenizer) == model.config.vocab_size == len(model.lm_head.weight) == ROWS
    assert model.config.intermediate_size < 48
    scores = []
    for name, checkpoint in (("dense", "data/model"), ("pruned", "data/pruned")):
        invoke(perplexity.main, name, "--checkpoint", checkpoint)
        found = json.loads((directory / f"data/evaluations/{name}/perplexity.json").read_text())
        scores.append(found["perplexity"]["domains"]["news"])
    dense, pruned = scores
    assert dense["tokens"] == pruned["tokens"]
    assert pruned["bits_per_byte"] / dense["bits_per_byte"] < 1.5


@pytest.mark.usefixtures("quick_programs")
def test_rows_into_which_lost_tokens_fall_are_trained_as_the_card_says(project) -> None:
    fewer = {"rows": 320, "keep": [], "leave": []}
    training = {"steps": 6, "learning_rate": 0.01, "batch_size": 2}
    directory = project(**{"prune.vocabulary": fewer, "surgery.tokens": training})
    words = " ".join(TEXT).split()
    texts = [" ".join(words[number % 9 :] + words[: number % 9]) + f" {number}" for number in range(60)]
    write_documents(
        directory / "data/sources/news.parquet",
        [Document(str(number), text) for number, text in enumerate(texts)],
    )
    invoke(corpus.main)
    invoke_all((vocabulary.main,), *ROUNDS, (surgery.main,))
    done = json.loads((directory / "data/pruned/healing.json").read_text())["tokens"]
    assert done["steps"] == 6
    assert done["after"] < done["before"]
    card = (directory / "data/pruned/README.md").read_text(encoding="utf-8")
    assert f"- {done['rows']:,} rows of tokens into which others fall were trained with the norms" in card
    assert f"{done['before']:.4f} before, {done['after']:.4f} after" in card


@pytest.mark.usefixtures("quick_programs")
def test_the_vocabulary_alone_can_go_and_what_is_left_be_trained(project) -> None:
    prune = {key: value for key, value in read_yaml()["prune"].items() if key != "sparsity"}
    directory = project(
        prune=prune | {"sites": [], "vocabulary": CHANGES["prune.vocabulary"]},
        **{
            "compute.device": "cpu",
            "recover.steps": 2,
            "recover.scales_first.steps": 0,
            "recover.batch_size": 2,
            "recover.left_out": 1,
            "recover.mixture": {"calibration": 0.6, "plain": 0.4, "dialogues": 0.0},
        },
    )
    invoke_all((corpus.main,), (vocabulary.main,), *ROUNDS, (surgery.main,))
    dense, pruned = (AutoModelForCausalLM.from_pretrained(path) for path in (MODEL, "data/pruned"))
    kept = json.loads((directory / "data/vocabulary.json").read_text())["kept"]
    ids = {old: new for new, old in enumerate(kept)}
    text = [token for token in byte_level()(TEXT[0])["input_ids"] if token in ids][:20]
    expected = dense(torch.tensor([text])).logits[..., kept]
    assert torch.equal(pruned(torch.tensor([[ids[token] for token in text]])).logits, expected)
    rows = read_sequences(CALIBRATION)
    recovery = [replace(row, domain=domain) for domain in ("news", OWN_KINDS["plain"]) for row in rows]
    write_sequences(RECOVERY_TEXT, recovery, {})
    invoke(recover.main)
    recovered = AutoModelForCausalLM.from_pretrained("data/recovered")
    assert recovered.config.vocab_size == ROWS
    # What the dense model has for lost tokens counts for their first pieces, which is there to be won.
    found = json.loads((directory / "data/recovered/recovery.json").read_text())
    assert 0 < found["after"]["all"] <= found["before"]["all"]


def test_with_0_rows_all_tokens_stay(project) -> None:
    directory = project(**{"prune.vocabulary.rows": 0})
    assert "all tokens stay, because prune.vocabulary.rows is 0" in invoke(vocabulary.main)
    assert json.loads((directory / "data/vocabulary.json").read_text()) == {"kept": None}


def test_more_rows_than_tokens_are_refused(project) -> None:
    project(**{"prune.vocabulary.rows": 448})
    output = invoke(vocabulary.main, status=1)
    # The byte alphabet, two special tokens, and two that the chat template writes.
    assert "prune.vocabulary.rows: 448: 260 tokens must stay" in output
    assert "and there are 447;" in output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ((100, [], []), "prune.vocabulary.rows: 100: must be a multiple of 64, such as 64"),
        ((64, ["Han"], ["Han"]), "prune.vocabulary: Han stands under both keep and leave"),
        ((384, ["Elvish"], []), "prune.vocabulary.keep: Elvish: no script of that name"),
    ],
)
def test_settings_that_nobody_can_mean_are_refused(project, changes, message) -> None:
    project(**{"prune.vocabulary": dict(zip(("rows", "keep", "leave"), changes, strict=True))})
    assert message in invoke(vocabulary.main, status=1)
