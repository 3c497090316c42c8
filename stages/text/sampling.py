"""Text that a model writes itself, from its own distribution."""

import hashlib

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.common.artifacts import Document
from stages.common.console import progress
from stages.common.errors import InputError
from stages.common.params import Sample


@torch.inference_mode()
def sample_documents(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Sample
) -> list[Document]:
    """`settings.documents` texts of `settings.tokens` tokens each, sampled from the whole distribution.

    Each starts from the beginning-of-text token. An end-of-text token does not stop a document: it is kept in
    the text, and what the model writes next follows. A document's random numbers depend on the seed and its
    own number only, not on the batch it is in.
    """
    draws = torch.stack([_draws(settings, number) for number in range(settings.documents)])
    steps = progress(
        range(-(-settings.documents // settings.batch_size) * settings.tokens), label="sample", unit="tokens"
    )
    found: list[str] = []
    with steps:
        for batch in draws.split(settings.batch_size):
            tokens = torch.full((len(batch), 1), start_token(tokenizer), device=model.device)
            written, cache = [], None
            for step in range(settings.tokens):
                output = model(input_ids=tokens, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                tokens = _choose(output.logits[:, -1], batch[:, step], settings.temperature)
                written.append(tokens)
                steps.update()
            found += tokenizer.batch_decode(torch.cat(written, dim=1), skip_special_tokens=False)
    return [Document(f"sample-{number}", text) for number, text in enumerate(found)]


def start_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that a text starts from: that of beginning, or else of end of text (as GPT-2 has it)."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return token
    raise InputError("the model's tokenizer has neither a beginning-of-text nor an end-of-text token")


def _draws(settings: Sample, number: int) -> torch.Tensor:
    """A document's uniform random numbers, one a token, drawn on the CPU: the same on every device."""
    digest = hashlib.blake2b(f"{settings.seed}:{number}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest))
    return torch.rand(settings.tokens, generator=generator, dtype=torch.float64)


def _choose(logits: torch.Tensor, draws: torch.Tensor, temperature: float) -> torch.Tensor:
    """[batch, 1] token ids: where the cumulative probability first exceeds the draw."""
    # On the CPU in float64: MPS has no float64, and rounding must not depend on the device's float32 sums.
    cumulative = (logits.cpu().double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    chosen = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)
    return chosen.clamp(max=logits.shape[-1] - 1).to(logits.device)
