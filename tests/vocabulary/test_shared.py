import copy

import torch

from secateurs.vocabulary.choose import trim_vocabulary
from secateurs.vocabulary.pieces import read_pieces
from secateurs.vocabulary.ranking import removal_order
from secateurs.vocabulary.shared import cut_like, in_tokens_of
from tests.tiny import make_tiny_model
from tests.vocabulary.small import TEXT, byte_level


def test_the_dense_model_gives_the_distribution_among_the_tokens_of_the_pruned_one() -> None:
    tokenizer = byte_level()
    dense = make_tiny_model(vocab_size=512)
    pieces = read_pieces(tokenizer, 512)
    gone = removal_order(pieces, {index: float(index) for index in pieces.tokens})[:40]
    kept = sorted(pieces.tokens.keys() - set(gone))
    pruned = copy.deepcopy(dense)
    other = trim_vocabulary(pruned, tokenizer, kept)

    text = {"d": torch.tensor([(tokenizer(line)["input_ids"] * 3)[:16] for line in TEXT[:2]])}
    ids = in_tokens_of(text, tokenizer, other)["d"]
    assert ids.shape == (2, 16)
    assert other.decode(ids[0]) == TEXT[0][: len(other.decode(ids[0]))]

    row = torch.tensor([[kept[index] for index in ids[0]]])
    expected = dense(row).logits.softmax(-1)[..., kept]
    cut_like(dense, tokenizer, other)
    found = dense(ids[:1]).logits.softmax(-1)
    assert torch.allclose(found, expected / expected.sum(-1, keepdim=True), atol=1e-6)
    assert torch.equal(dense(ids).logits, pruned(ids).logits)


def test_a_row_that_becomes_shorter_is_left_out() -> None:
    tokenizer = byte_level()
    cat = tokenizer("猫 dog dog")["input_ids"]
    whole = tokenizer("dog" * 40)["input_ids"][: len(cat) - 1]
    text = {"d": torch.tensor([cat[1:], whole])}
    assert in_tokens_of(text, tokenizer, tokenizer)["d"].tolist() == [whole]
