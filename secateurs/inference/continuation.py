"""What a model writes when it is given the beginning of a text: a check that no number replaces."""

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.families.boundaries import prompt_ids
from secateurs.inference.attention_kernels import many_shapes
from secateurs.inference.plain import plain_generation

PROMPTS = (
    "The water cycle describes how water moves",
    "def is_prime(n):\n",
    "Question: A train covers 60 miles in 1.5 hours. What is its average speed?\nAnswer:",
)
NEW_TOKENS = 40


def continue_prompts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, str]]:
    """Greedy continuations of fixed prompts, as {prompt, continuation}."""
    return [{"prompt": prompt, "continuation": _continue(model, tokenizer, prompt)} for prompt in PROMPTS]


@torch.inference_mode()
@many_shapes()
def _continue(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    given = torch.tensor([prompt_ids(tokenizer, prompt)], device=model.device)
    generator: Any = model  # transformers adds `generate` to its classes out of the type checker's sight
    with plain_generation(model, tokenizer, NEW_TOKENS, do_sample=False) as settings:
        output = generator.generate(
            input_ids=given, attention_mask=torch.ones_like(given), generation_config=settings
        )
    new = output[0, given.shape[1] :]
    text = tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text
