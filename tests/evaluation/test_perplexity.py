import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.evaluation.perplexity import DomainScore, geometric_mean, score_domains
from secateurs.text.documents import Sequence
from secateurs.vocabulary.pieces import read_pieces
from secateurs.vocabulary.ranking import removal_order
from secateurs.vocabulary.trimming import new_ids, trim_tokenizer
from tests.tiny import make_tiny_model
from tests.vocabulary.small import TEXT, byte_level

TEXTS = {"tales": ["once upon a time ", "the fox jumped up"], "sums": ["1 + 1 = 2; 2 + 2"]}
LENGTH = 16


@pytest.fixture(scope="module")
def model(dense_dir: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(dense_dir).eval()


@pytest.fixture(scope="module")
def tokenizer(dense_dir: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(dense_dir)


@pytest.fixture
def rows(tokenizer: PreTrainedTokenizerBase) -> list[Sequence]:
    return [
        Sequence(domain, ("d",), tuple(tokenizer(text)["input_ids"][:LENGTH]))
        for domain, texts in TEXTS.items()
        for text in texts
    ]


def test_loss_is_the_mean_of_transformers_own(model, tokenizer, rows):
    scores = score_domains(model, tokenizer, rows, batch_size=8)
    with torch.no_grad():
        own = [
            model(input_ids=ids, labels=ids).loss.item()
            for ids in (torch.tensor([row.input_ids]) for row in rows if row.domain == "tales")
        ]
    assert scores["tales"].loss == pytest.approx(sum(own) / len(own), rel=1e-5)
    assert scores["tales"].perplexity == pytest.approx(math.exp(sum(own) / len(own)), rel=1e-5)
    assert scores["tales"].tokens == 2 * (LENGTH - 1)


def test_batch_size_does_not_change_scores(model, tokenizer, rows):
    one, many = (score_domains(model, tokenizer, rows, size) for size in (1, 8))
    assert {d: s.loss for d, s in one.items()} == pytest.approx(
        {d: s.loss for d, s in many.items()}, rel=1e-5
    )


def test_bits_per_byte_divide_by_the_bytes_of_predicted_tokens(model, tokenizer, rows):
    # One token is one byte here, so bits per byte are bits per token.
    score = score_domains(model, tokenizer, rows, batch_size=2)["sums"]
    assert score.bits_per_byte == pytest.approx(score.loss / math.log(2))


def test_separators_count_as_tokens_but_not_as_bytes(model, tokenizer):
    ids = (5, 6, tokenizer.eos_token_id, 7)
    score = score_domains(model, tokenizer, [Sequence("d", ("x",), ids)], batch_size=1)["d"]
    assert score.tokens == 3
    assert score.bits_per_byte == pytest.approx(3 * score.loss / (2 * math.log(2)))


def test_geometric_mean_is_the_root_of_the_product():
    scores = {
        name: DomainScore(math.log(value), 1.0, 10) for name, value in (("a", 2.0), ("b", 4.0), ("c", 27.0))
    }
    assert geometric_mean(scores) == pytest.approx((2.0 * 4.0 * 27.0) ** (1 / 3))


def test_loss_that_is_not_finite_is_refused_by_domain(tiny_model, tokenizer, rows):
    broken = tiny_model()
    broken.model.norm.weight.data.fill_(math.nan)
    with pytest.raises(InputError, match="domain tales: nan"):
        score_domains(broken, tokenizer, rows, batch_size=2)


def test_rows_cut_by_another_tokenizer_are_scored_per_token_of_the_rows():
    tokenizer = byte_level()
    pieces = read_pieces(tokenizer, len(tokenizer))
    gone = removal_order(pieces, {index: float(index) for index in pieces.tokens})[::2]
    other = trim_tokenizer(tokenizer, new_ids(tokenizer, pieces.tokens.keys() - set(gone), len(tokenizer)))
    model = make_tiny_model(vocab_size=len(other))
    texts = TEXT[:2]
    rows = [Sequence("d", ("x",), tuple(tokenizer(text)["input_ids"])) for text in texts]
    own = [Sequence("d", ("x",), tuple(other(text)["input_ids"])) for text in texts]
    score = score_domains(model, other, rows, 2, cut_by=tokenizer)["d"]
    assert score.bits_per_byte == score_domains(model, other, own, 2)["d"].bits_per_byte
    assert score.tokens == sum(len(row.input_ids) - 1 for row in rows)
    said = sum(len(tokenizer.decode(row.input_ids[1:]).encode()) for row in rows)
    assert score.loss * score.tokens == pytest.approx(score.bits_per_byte * math.log(2) * said)


def test_rows_of_several_lengths_count_by_their_tokens(model, tokenizer):
    rows = [Sequence("d", ("x",), ids) for ids in ((5, 6, 7), (8, 9, 10, 11, 12), (13, 14, 15))]
    losses = [score_domains(model, tokenizer, [row], 1)["d"].loss for row in rows]
    assert score_domains(model, tokenizer, rows, 2)["d"].loss == pytest.approx(
        (2 * losses[0] + 4 * losses[1] + 2 * losses[2]) / 8
    )
