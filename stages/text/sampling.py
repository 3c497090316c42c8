"""Text that a model writes itself, from its own distribution."""

import hashlib
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.common.artifacts import Document
from stages.common.console import progress
from stages.common.errors import InputError
from stages.common.params import PARAMS_FILE, Sample
from stages.text.boundaries import start


@torch.inference_mode()
def sample_documents(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Sample, where: Path
) -> list[Document]:
    """`settings.documents` texts of `settings.tokens` tokens each, sampled from the whole distribution.

    Each starts as text/boundaries.py says that a text starts; where: the directory the tokenizer is from.
    An end-of-text token does not stop a document: it is kept in the text, and what the model writes next
    follows. A document's random numbers depend on the seed and its own number only, not on its batch.
    Raises InputError where the model's logits are no numbers.
    """
    draws = torch.stack([_draws(settings, number) for number in range(settings.documents)])
    steps = progress(
        range(-(-settings.documents // settings.batch_size) * settings.tokens), label="sample", unit="tokens"
    )
    first = start(tokenizer, where)
    found: list[str] = []
    with steps:
        for batch in draws.split(settings.batch_size):
            tokens = torch.full((len(batch), 1), first, device=model.device)
            written, cache = [], None
            for step in range(settings.tokens):
                output = model(input_ids=tokens, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                tokens = _choose(output.logits[:, -1], batch[:, step], settings.temperature)
                written.append(tokens)
                steps.update()
            found += tokenizer.batch_decode(torch.cat(written, dim=1), skip_special_tokens=False)
    return [Document(f"sample-{number}", text) for number, text in enumerate(found)]


def _draws(settings: Sample, number: int) -> torch.Tensor:
    """A document's uniform random numbers, one a token, drawn on the CPU: the same on every device."""
    digest = hashlib.blake2b(f"{settings.seed}:{number}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest))
    return torch.rand(settings.tokens, generator=generator, dtype=torch.float64)


def _choose(logits: torch.Tensor, draws: torch.Tensor, temperature: float) -> torch.Tensor:
    """[batch, 1] token ids: where the cumulative probability first exceeds the draw."""
    # On the CPU in float64: MPS has no float64, and rounding must not depend on the device's float32 sums.
    cumulative = (logits.cpu().double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    if not bool(torch.isfinite(cumulative).all()):
        raise InputError(
            f"{PARAMS_FILE}: compute.dtype: {str(logits.dtype).removeprefix('torch.')}: the model's logits "
            "are not finite, so its text would be noise; use bfloat16 or float32"
        )
    chosen = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)
    return chosen.clamp(max=logits.shape[-1] - 1).to(logits.device)
