"""The margin loss and the four-bit weights, against what they say they are."""

import gguf
import numpy as np
import pytest
import torch

from lab.baselines.four_bits import bytes_in_four_bits, q4_0, to_four_bits
from lab.baselines.margins import Answers, answers_of, margin_losses, with_answers
from secateurs.errors import InputError
from tests.tiny import make_tiny_model, make_tiny_tokenizer

TEXTS = [
    "Why? The answer is (C). And so on.",
    "No letter stands in this one here.",
    "The answer is (A). The answer is (B).",
]


def rows() -> torch.Tensor:
    tokenizer = make_tiny_tokenizer()
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    width = max(map(len, ids))
    return torch.tensor([one + [3] * (width - len(one)) for one in ids])


def test_letters_are_found_by_what_stands_before_them() -> None:
    tokenizer = make_tiny_tokenizer()
    answers = answers_of(tokenizer)
    assert answers.letters == tuple(tokenizer(letter)["input_ids"][0] for letter in "ABCD")
    assert answers.before == tuple(tokenizer("s (")["input_ids"])


def test_the_loss_is_the_best_other_letter_less_the_right_one() -> None:
    model, answers, ids = make_tiny_model(), answers_of(make_tiny_tokenizer()), rows()
    found = margin_losses(answers)(model, ids)
    expected = []
    for text, row in zip(TEXTS, ids, strict=True):
        margins = []
        for place in [index + 1 for index, mark in enumerate(text) if mark == "("]:
            logits = model(row[None]).logits[0, place - 1, list(answers.letters)].detach()
            right = answers.letters.index(int(row[place]))
            others = torch.cat([logits[:right], logits[right + 1 :]])
            margins.append(float(others.max() - logits[right]))
        expected.append(sum(margins) / max(1, len(margins)))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_a_sequence_without_an_answer_has_no_gradient() -> None:
    model = make_tiny_model().requires_grad_(True)
    margin_losses(answers_of(make_tiny_tokenizer()))(model, rows()[1:2]).sum().backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())


def test_only_sequences_with_answers_are_read() -> None:
    answers = answers_of(make_tiny_tokenizer())
    found = with_answers({"a": rows(), "b": rows()[1:2]}, answers)
    assert list(found) == ["a"]
    assert torch.equal(found["a"], rows()[[0, 2]])
    with pytest.raises(InputError, match="no calibration text says 'The answer is"):
        with_answers({"b": rows()[1:2]}, Answers(answers.before, answers.letters))


def test_weights_are_rounded_as_llama_cpp_rounds_them() -> None:
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    weight[0, :32] = 0
    kind = gguf.GGMLQuantizationType.Q4_0
    expected = gguf.dequantize(gguf.quantize(weight.numpy(), kind), kind)
    np.testing.assert_allclose(q4_0(weight).numpy(), expected, rtol=1e-6, atol=1e-7)


def test_four_bits_are_counted_with_their_scales() -> None:
    model = make_tiny_model(intermediate_size=64)
    head = model.lm_head.weight.detach().clone()
    to_four_bits(model)
    assert torch.equal(model.lm_head.weight, head)
    layer = 3 * 32 * 64 + 2 * 32 * 32 + 2 * 32 * 16
    rest = model.num_parameters() - 3 * layer
    assert bytes_in_four_bits(model) == round(3 * layer * 4.5 / 8 + rest * 2)
