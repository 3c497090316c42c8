import torch

from secateurs.vocabulary.shared import in_tokens_of
from tests.vocabulary.small import byte_level


def test_a_row_that_becomes_shorter_is_left_out() -> None:
    tokenizer = byte_level()
    cat = tokenizer("猫 dog dog")["input_ids"]
    whole = tokenizer("dog" * 40)["input_ids"][: len(cat) - 1]
    text = {"d": torch.tensor([cat[1:], whole])}
    assert in_tokens_of(text, tokenizer, tokenizer)["d"].tolist() == [whole]
