"""How long two models take for the same work, measured in turn so that the ratio survives a noisy machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import psutil
import torch
from transformers import PreTrainedModel

from secateurs.errors import SettingError
from secateurs.families.decoder import context_length, text_config
from secateurs.progress import progress

# How long the processors are watched before anything is timed.
BUSY_SECONDS = 0.5


@dataclass(frozen=True)
class Latency:
    """Milliseconds for the whole prompt, and for each token decoded after it; or ratios of them."""

    prefill_ms: float
    decode_ms_per_token: float


@dataclass(frozen=True)
class Comparison:
    """Medians of two models, and the median, lowest and highest ratio of neighbouring runs (this / against).

    busy: the share of the machine's processors that was at work just before, in 0 to 1.
    """

    this: Latency
    against: Latency
    ratio: Latency
    lowest: Latency
    highest: Latency
    busy: float


def compare_latency(
    this: PreTrainedModel, against: PreTrainedModel, prompt_tokens: int, decode_tokens: int, repeats: int
) -> Comparison:
    """Run both models once to warm up, then `repeats` pairs: this, against, against, this, this, against, ...

    The order alternates, so that a machine which slows down or speeds up does so for both. Batch of one,
    greedy decoding with the KV cache. Raises InputError when a model's context is too short.
    """
    busy = psutil.cpu_percent(BUSY_SECONDS) / 100
    for model in (this, against):
        _check_context(model, prompt_tokens + decode_tokens)
        run_once(model, prompt_tokens, decode_tokens)
    pairs = []
    for number in progress(range(repeats), "latency", "pair"):
        order = (this, against) if number % 2 == 0 else (against, this)
        pair = [run_once(model, prompt_tokens, decode_tokens) for model in order]
        pairs.append((pair[0], pair[1]) if number % 2 == 0 else (pair[1], pair[0]))
    ratios = [
        Latency(one.prefill_ms / other.prefill_ms, one.decode_ms_per_token / other.decode_ms_per_token)
        for one, other in pairs
    ]
    return Comparison(
        this=_each(median, [one for one, _ in pairs]),
        against=_each(median, [other for _, other in pairs]),
        ratio=_each(median, ratios),
        lowest=_each(min, ratios),
        highest=_each(max, ratios),
        busy=busy,
    )


@torch.inference_mode()
def run_once(model: PreTrainedModel, prompt_tokens: int, decode_tokens: int) -> Latency:
    """Time one prefill and the greedy decoding of `decode_tokens` tokens after it."""
    # What the tokens are does not matter to the time they take.
    prompt = torch.arange(prompt_tokens, device=model.device)[None] % text_config(model.config).vocab_size
    start = _now(model.device)
    output = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    filled = _now(model.device)
    for _ in range(decode_tokens):
        token = output.logits[:, -1:].argmax(dim=-1)
        output = model(input_ids=token, past_key_values=output.past_key_values, use_cache=True)
    done = _now(model.device)
    return Latency(1000 * (filled - start), 1000 * (done - filled) / decode_tokens)


def _now(device: torch.device) -> float:
    # Kernels run behind the program's back; wait for them before looking at the clock.
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
    return time.perf_counter()


def _each(pick: Callable[[list[float]], float], runs: list[Latency]) -> Latency:
    return Latency(pick([run.prefill_ms for run in runs]), pick([run.decode_ms_per_token for run in runs]))


def _check_context(model: PreTrainedModel, tokens: int) -> None:
    context = context_length(model.config)
    if tokens > context:
        raise SettingError(
            f"evaluate.prompt_tokens + evaluate.decode_tokens: {tokens}: "
            f"more than the model's context of {context} tokens"
        )
