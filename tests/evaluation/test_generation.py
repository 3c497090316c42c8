from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from secateurs.evaluation import generation
from secateurs.evaluation.generation import before_first, end_tokens, generate
from secateurs.inference import writing
from tests.tiny import make_tiny_model, make_tiny_tokenizer

PROMPTS = ["a", "one two", "what is this, and why?", "b" * 40, "one two", ""]


def prompts(*texts: str) -> list[tuple[int, ...]]:
    tokenizer = make_tiny_tokenizer()
    return [(0, *tokenizer(text)["input_ids"]) for text in texts]


def one_by_one(model: PreTrainedModel, texts: list[str], tokens: int) -> list[str]:
    """What transformers' own greedy decoding writes after each prompt alone."""
    tokenizer, found = make_tiny_tokenizer(), []
    generator: Any = model
    for ids in prompts(*texts):
        given = torch.tensor([ids])
        written = generator.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=1,
        )
        found.append(tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True))
    return found


def tiny_gemma() -> PreTrainedModel:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=258, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=8, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        initializer_range=0.2,
    )  # fmt: skip
    return Gemma2ForCausalLM(config).eval()


@pytest.mark.parametrize("make", [make_tiny_model, tiny_gemma])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_batch_is_written_as_each_prompt_alone(
    make: Callable[[], PreTrainedModel], batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few tokens a batch that prompts of one are divided among several.
    monkeypatch.setattr(generation, "ROW_TOKENS", 8)
    model = make()
    found = generate(model, make_tiny_tokenizer(), prompts(*PROMPTS), [], 20, batch_size)
    assert found == one_by_one(model, PROMPTS, 20)


def test_rows_that_end_leave_the_batch_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_tiny_model()
    expected = one_by_one(model, PROMPTS, 24)
    stop = expected[3][2:4]
    sizes = []
    forward = model.forward

    def counted(*arguments: Any, **options: Any) -> Any:
        sizes.append(len(options["input_ids"]))
        return forward(*arguments, **options)

    monkeypatch.setattr(model, "forward", counted)
    monkeypatch.setattr(generation, "LOOK", 2)
    monkeypatch.setattr(writing, "ENDED", 0.01)
    found = generate(model, make_tiny_tokenizer(), prompts(*PROMPTS), [stop], 24, 8)
    assert found == [before_first(text, [stop]) for text in expected]
    assert min(sizes) < max(sizes) == 5


def test_a_text_ends_before_an_end_token() -> None:
    model, tokenizer = make_tiny_model(), make_tiny_tokenizer()
    (free,) = generate(model, tokenizer, prompts("a"), [], 12, 4)
    model.generation_config.eos_token_id = [tokenizer(free[2])["input_ids"][0]]
    (found,) = generate(model, tokenizer, prompts("a"), [], 12, 4)
    assert found == free[: free.index(free[2])]


def test_a_prompt_that_is_too_long_loses_its_beginning() -> None:
    model = make_tiny_model(max_position_embeddings=32)
    (found,) = generate(model, make_tiny_tokenizer(), prompts("x" * 50), [], 8, 4)
    assert found == generate(model, make_tiny_tokenizer(), [prompts("x" * 50)[0][-24:]], [], 8, 4)[0]


def test_ends_are_those_of_tokenizer_and_model() -> None:
    model = make_tiny_model()
    model.generation_config.eos_token_id = [5, 7]
    assert end_tokens(model, make_tiny_tokenizer()) == [1, 5, 7]


def test_the_first_stop_counts_wherever_it_is_in_the_list() -> None:
    assert before_first("one two three", ["three", "two", ""]) == "one "
    assert before_first("one", ["two"]) == "one"
