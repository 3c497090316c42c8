"""`secateurs prune` where tokens go, and where trials choose what goes: on the project's licence as text."""

import json
import re
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateurs.checkpoints.saving import save_model
from secateurs.cli import main
from secateurs.gguf.converter import VARIABLE
from tests.project import ROOT, invoke
from tests.test_command import FEW, run
from tests.test_command_recover import SHORT
from tests.test_export import CONVERTER, NEEDS_CONVERTER, QWEN2_WORDS, trained_tokenizer
from tests.tiny import make_tiny_model

FEW = [*FEW, "--set", "prune.width_multiple=1", "--text", "docs", "--out", "small"]
ROWS = 320
LICENCE = (ROOT / "LICENSE").read_text(encoding="utf-8")
AUTO = ["--set", "prune.sites=auto", "--set", "prune.auto.trials=1", "--set", "prune.auto.sequences=3"]


@pytest.fixture
def model(here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The parameters of a dense model of 512 rows, in `model`, beside the pages of `docs`."""
    monkeypatch.setenv(VARIABLE, str(CONVERTER))
    (here / "docs").mkdir()
    for number, page in enumerate(LICENCE.split("\n\n")):
        (here / "docs" / f"{number}.md").write_text(page, encoding="utf-8")
    tokenizer = trained_tokenizer(QWEN2_WORDS, [LICENCE], 500)
    dense = make_tiny_model(
        vocab_size=512, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    save_model(dense, here / "model")
    tokenizer.save_pretrained(here / "model")
    return int(dense.num_parameters())


@pytest.mark.usefixtures("quick_programs")
def test_rows_that_the_target_counts_as_gone_are_gone_with_their_tokens(model: int) -> None:
    target = model - (512 - ROWS) * 32 - 4000
    said = run("model", *FEW, "--set", f"prune.vocabulary.rows={ROWS}", "--set", f"prune.parameters={target}")
    small, tokenizer = AutoModelForCausalLM.from_pretrained("small"), AutoTokenizer.from_pretrained("small")
    # A step is a channel in each of the three layers.
    assert target - 3 * 3 * 32 < small.num_parameters() <= target
    assert small.config.vocab_size == len(tokenizer) == ROWS
    assert small.config.eos_token_id == tokenizer.eos_token_id == tokenizer.get_vocab()["</s>"]
    assert f"; {ROWS} of 512 rows of the vocabulary stay; " in said
    card = Path("small/README.md").read_text(encoding="utf-8")
    assert f"- {ROWS} of 512 rows of the vocabulary are left, and a tokenizer for them" in card


@pytest.mark.usefixtures("quick_programs")
def test_what_lost_tokens_is_recovered_by_text_in_those_that_are_left(model: int) -> None:
    target = ["--set", f"prune.vocabulary.rows={ROWS}", "--set", f"prune.parameters={model - 10000}"]
    run("model", *FEW, *target, *SHORT)
    small, tokenizer = AutoModelForCausalLM.from_pretrained("small"), AutoTokenizer.from_pretrained("small")
    assert small.config.vocab_size == len(tokenizer) == ROWS
    card = Path("small/README.md").read_text(encoding="utf-8")
    assert "| held-out text and tasks | dense | pruned | recovered |" in card
    first, best = map(float, re.findall(r"left-out text ([\d.]+) -> ([\d.]+) nats", card)[0])
    assert 0 < best < first


@pytest.mark.usefixtures("quick_programs")
def test_text_of_kept_tokens_alone_is_cut_as_before_and_other_text_is_spelled(model: int) -> None:
    run("model", *FEW, "--set", f"prune.vocabulary.rows={ROWS}")
    dense, small = (AutoTokenizer.from_pretrained(path) for path in ("model", "small"))
    words, kept = set(LICENCE.split()), set(small.get_vocab())
    same = {word for word in words if set(dense.tokenize(word)) <= kept}
    assert len(same) > 50
    assert all(small.tokenize(word) == dense.tokenize(word) for word in same)
    assert words - same
    assert all(small.decode(small(word)["input_ids"]) == word for word in words - same)


@pytest.mark.usefixtures("quick_programs")
def test_the_vocabulary_alone_can_go_and_perplexity_is_of_the_same_text(model: int) -> None:
    said = run("model", *FEW, "--set", f"prune.vocabulary.rows={ROWS}", "--set", "prune.sites=[]")
    dense, small = (AutoModelForCausalLM.from_pretrained(path) for path in ("model", "small"))
    assert model - small.num_parameters() == (512 - ROWS) * 32
    ids = AutoTokenizer.from_pretrained("model").get_vocab()
    kept = sorted(AutoTokenizer.from_pretrained("small").get_vocab().items(), key=lambda item: item[1])
    rows = torch.tensor([ids[token] for token, _ in kept])
    assert torch.equal(small.get_input_embeddings().weight, dense.get_input_embeddings().weight[rows])
    assert "of which nothing goes over 3 rounds; 320 of 512 rows" in said


@pytest.mark.usefixtures("quick_programs")
def test_auto_says_what_it_chose_and_meets_the_target_by_it(model: int) -> None:
    target = model - 9000
    said = run("model", *FEW, *AUTO, "--set", f"prune.parameters={target}").splitlines()
    (chosen,) = [line for line in said if line.startswith("chosen: prune.sites: [")]
    assert chosen.endswith("nats per byte expected")
    for kind in ("vocabulary", "mlp", "attention"):
        assert any(line.startswith(f"{kind}: ") and "parameters fewer lose" in line for line in said)
    small, tokenizer = AutoModelForCausalLM.from_pretrained("small"), AutoTokenizer.from_pretrained("small")
    assert small.num_parameters() <= target
    _, _, rows = chosen.partition("prune.vocabulary.rows: ")
    assert small.config.vocab_size == (int(rows.split(";")[0]) if rows else 512)
    assert not rows or len(tokenizer) == small.config.vocab_size


@pytest.mark.usefixtures("quick_programs")
def test_where_tokens_are_the_only_kind_they_meet_the_target(model: int) -> None:
    target = model - 100 * 32
    kinds = json.dumps(["vocabulary"])
    said = run(
        "model", *FEW, *AUTO, "--set", f"prune.parameters={target}", "--set", f"prune.auto.kinds={kinds}"
    )
    # The next multiple of 64 below.
    assert AutoModelForCausalLM.from_pretrained("small").config.vocab_size == 384
    assert len(AutoTokenizer.from_pretrained("small")) == 384
    assert "chosen: prune.sites: [], prune.vocabulary.rows: 384;" in said


@pytest.mark.usefixtures("quick_programs")
@NEEDS_CONVERTER
def test_the_gguf_has_the_tokens_that_are_left(model: int) -> None:
    run("model", *FEW, "--set", f"prune.vocabulary.rows={ROWS}", "--export", "f16")
    tokens = GGUFReader("small.gguf").fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == ROWS
    assert set(tokens) == set(AutoTokenizer.from_pretrained("small").get_vocab())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("prune.vocabulary.rows=64", "prune.vocabulary.rows: 64: 25"),
        ("prune.vocabulary.rows=100", "prune.vocabulary.rows: 100: must be a multiple of 64, such as 64"),
        ("prune.memory.bytes=9", 'prune.memory.bytes: 9: prune.memory is given whole, as {"bytes": 20'),
        ("corpus.ngram=5", "corpus.ngram: 5: unknown key; corpus is no group of settings: there are mix"),
        ("prune.sites=[mlp]", "--set: prune.sites=[mlp]: not JSON; put text in it in double quotes"),
    ],
)
def test_settings_that_cannot_be_given_are_said_before_anything_is_pruned(
    model: int, given: str, said: str
) -> None:
    output = invoke(main, "prune", "model", *FEW, "--set", given, status=1)
    assert said in output
    assert "r1 …" not in output
    assert not Path("small").exists()
