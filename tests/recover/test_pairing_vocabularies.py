"""A dense model that reads and chooses among the tokens of a pruned one."""

import copy
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.inference.divergence import divergences
from secateurs.inference.head import head_logits, hidden_states
from secateurs.recover.pairing import cut_like
from secateurs.vocabulary.choose import trim_vocabulary
from secateurs.vocabulary.pieces import read_pieces
from secateurs.vocabulary.ranking import removal_order
from secateurs.vocabulary.shared import in_tokens_of
from tests.tiny import make_tiny_model, make_tiny_twin
from tests.vocabulary.small import TEXT, byte_level

MODELS = {
    "llama": lambda: make_tiny_model(vocab_size=512),
    "gemma2": lambda: make_tiny_twin("gemma2", final_logit_softcapping=0.5, vocab_size=512),
    "cohere": lambda: make_tiny_twin("cohere", logit_scale=3.0, vocab_size=512),
}


def pruned_of(dense: PreTrainedModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[int]]:
    """The model without 40 tokens, its tokenizer, and which it has kept."""
    pieces = read_pieces(byte_level(), 512)
    gone = removal_order(pieces, {index: float(index) for index in pieces.tokens})[:40]
    kept = sorted(pieces.tokens.keys() - set(gone))
    pruned = copy.deepcopy(dense)
    return pruned, trim_vocabulary(pruned, byte_level(), kept), kept


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_token_that_is_gone_counts_for_its_first_piece(make: Any) -> None:
    dense, tokenizer = make(), byte_level()
    pruned, other, kept = pruned_of(dense)
    text = {"d": torch.tensor([(tokenizer(line)["input_ids"] * 3)[:16] for line in TEXT[:2]])}
    ids = in_tokens_of(text, tokenizer, other)["d"]

    p = dense(torch.tensor([[kept[index] for index in row] for row in ids])).logits.softmax(-1)
    expected = torch.zeros(*p.shape[:-1], len(kept))
    for token, index in tokenizer.get_vocab().items():
        spelled = other(token if index in kept else tokenizer.decode([index]), add_special_tokens=False)
        first = kept.index(index) if index in kept else spelled["input_ids"][0]
        expected[..., first] += p[..., index]
    expected /= expected.sum(-1, keepdim=True)

    cut_like(dense, tokenizer, other)
    found = head_logits(dense)(hidden_states(dense, ids)).softmax(-1)
    assert torch.allclose(found, expected, atol=1e-6)
    q = pruned(ids).logits.log_softmax(-1)
    kl = (expected * (expected.log() - q)).sum(-1).mean(-1)
    assert torch.allclose(divergences(pruned, dense, ids), kl, atol=1e-5)
    assert (kl > 0).all()


def test_both_models_read_a_text_alike() -> None:
    dense = make_tiny_model(vocab_size=512)
    pruned, other, _ = pruned_of(dense)
    cut_like(dense, byte_level(), other)
    ids = torch.tensor([other(TEXT[0])["input_ids"]])
    hidden = [model.base_model(ids).last_hidden_state for model in (dense, pruned)]
    assert torch.equal(*hidden)
    rows = head_logits(dense)(hidden[0]).shape[-1]
    assert dense.config.vocab_size == pruned.config.vocab_size == rows
