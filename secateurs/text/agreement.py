"""Whether text was drawn from a model's own distribution, by what that model thinks of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.errors import InputError
from secateurs.text.sampling import Draw, check_finite

# A difference that is larger than chance makes, and than rounding does.
ERRORS, NATS = 5.0, 0.05


@dataclass(frozen=True)
class Drawn:
    """What was written after a prompt, and how its tokens were drawn."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    draw: Draw


@dataclass(frozen=True)
class Agreement:
    """Mean log-probabilities of drawn tokens, in nats: what they are, what they should be, their error.

    The error is that of `found` by chance, if the tokens were drawn from the model's distribution.
    """

    found: float
    expected: float
    error: float
    tokens: int


@torch.inference_mode()
def agreement(model: PreTrainedModel, texts: Iterable[Drawn]) -> Agreement:
    """How likely tokens are, and how likely tokens that the model itself draws would be.

        found    = mean_t log p_t(x_t)
        expected = mean_t E_{x ~ q_t} log p_t(x)
        error^2  = mean_t Var_{x ~ q_t} log p_t(x) / tokens

    p_t: the model's distribution after all tokens before t. q_t: the same at the temperature of the draw, of
    tokens at least min_p times as likely as the likeliest. Differences of two tokens are uncorrelated, so the
    error holds for texts that end where their tokens say. Raises SettingError where logits are no numbers.
    """
    found = expected = variance = 0.0
    tokens = 0
    for text in texts:
        if not text.ids:
            continue
        row = torch.tensor([[*text.prompt, *text.ids]], device=model.device)
        logits = model(input_ids=row, logits_to_keep=len(text.ids) + 1).logits[0, :-1]
        check_finite(logits)
        logs = logits.float().log_softmax(dim=-1)
        drawn = _drawn(logs, text.draw)
        means = (drawn * logs).sum(dim=-1)
        variances = (drawn * (logs - means[:, None]) ** 2).sum(dim=-1)
        found += float(logs.gather(1, row[0, -len(text.ids) :, None]).double().sum())
        expected += float(means.double().sum())
        variance += float(variances.double().sum())
        tokens += len(text.ids)
    most = max(1, tokens)
    return Agreement(found / most, expected / most, math.sqrt(variance) / most, tokens)


def _drawn(logs: Tensor, draw: Draw) -> Tensor:
    """[tokens, vocabulary] the probabilities with which each token of a text is drawn."""
    first, temperature = draw.opening
    temperatures = torch.full((len(logs), 1), draw.temperature, device=logs.device)
    temperatures[:first] = temperature
    scaled = logs / temperatures
    if draw.min_p:
        least = scaled.amax(dim=-1, keepdim=True) + math.log(draw.min_p)
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    return scaled.softmax(dim=-1)


def check_agreement(found: Agreement, writer: str) -> None:
    """Raise InputError where text differs from what the model itself would have drawn."""
    difference = found.found - found.expected
    if abs(difference) > max(NATS, ERRORS * found.error):
        raise InputError(
            f"sample.engine: vllm: {writer} writes as another model than the dense one: the tokens that it "
            f"drew have a mean log-probability of {found.found:.3f} nats, and those that the dense model "
            f"draws {found.expected:.3f} ± {found.error:.3f} ({found.tokens:,} tokens); take another version "
            "of vLLM, or set sample.engine to ours"
        )
