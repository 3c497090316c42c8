"""What is measured of a model in use: likelihoods, writing, serving. Its parts are as in pruning_speed.py."""

import copy
from collections.abc import Callable
from statistics import median

import torch
from transformers import PreTrainedModel

from lab.bench.clock import timed
from lab.bench.floors import ceilings, reading_floor, writing_floor
from lab.bench.setup import Record, Setup
from lab.bench.shapes import cut_model, random_text
from secateurs.inference.likelihood import Continuation, Ids, likelihoods
from secateurs.inference.writing import Looks, write

DECODE_AFTER = 256
# Tokens of an ending that is scored, and tokens that are written after a prompt.
ENDING, WRITTEN = 8, 128


def likelihood_speed(setup: Setup) -> Record:
    """Likelihoods of endings of ENDING tokens: what multiple-choice tasks ask, without lm-eval around it."""
    model = setup.model()
    rows = _rows(setup, model)
    asked = [Continuation(row[:-ENDING], row[-ENDING:]) for row in rows]
    # The last token of an ending is not read.
    read = [len(row) - 1 for row in rows]
    likelihoods(model, asked[: setup.batch], setup.batch)
    machine = ceilings(setup.device, setup.dtype)
    floor = reading_floor(model, read, ENDING * len(rows), machine)
    took = timed(setup.device, lambda: likelihoods(model, asked, setup.batch))
    return {
        "likelihoods, s": took.seconds,
        "likelihoods, floor, s": floor,
        "likelihoods / floor, time": took.seconds / floor,
        "likelihoods, tokens/s": sum(read) / took.seconds,
        "likelihoods peak, GiB": took.peak_gib,
    }


def writing_speed(setup: Setup) -> Record:
    """WRITTEN tokens after prompts of unequal length, in batches: what makes generation and own text."""
    model = setup.model()
    prompts = _rows(setup, model)

    def run(rows: list[Ids], tokens: int) -> object:
        return write(model, rows, tokens, lambda logits, _, __: logits.argmax(dim=-1), Looks(tokens))

    run(prompts[:2], 2)
    machine = ceilings(setup.device, setup.dtype)
    batches = [prompts[start : start + setup.batch] for start in range(0, len(prompts), setup.batch)]
    lengths = [[len(row) for row in batch] for batch in batches]
    floor = sum(writing_floor(model, rows, [WRITTEN] * len(rows), machine) for rows in lengths)
    took = timed(setup.device, lambda: [run(batch, WRITTEN) for batch in batches])
    return {
        "writing, s": took.seconds,
        "writing, floor, s": floor,
        "writing / floor, time": took.seconds / floor,
        "writing, ms a step": 1000 * took.seconds / (WRITTEN * len(batches)),
        "writing peak, GiB": took.peak_gib,
    }


def _rows(setup: Setup, model: PreTrainedModel) -> list[Ids]:
    """Rows of a quarter of `setup.tokens` to all of them, longest first."""
    generator = torch.Generator().manual_seed(1)
    ids = random_text(model, setup.sequences, setup.tokens).tolist()
    lengths = torch.randint(setup.tokens // 4, setup.tokens + 1, (setup.sequences,), generator=generator)
    return sorted((tuple(row[:length]) for row, length in zip(ids, lengths, strict=True)), key=len)[::-1]


def serving_speed(setup: Setup) -> Record:
    """Dense against a model cut by 20%: prefill and decode, and the speed-up that the parameters predict."""
    dense = setup.model()
    small = cut_model(copy.deepcopy(dense), 0.2)
    record: Record = {}
    for batch in (1, 32):
        for phase, work in (("prefill", _prefill), ("decode", _decode)):
            runs = [(work(setup, dense, batch), work(setup, small, batch)) for _ in range(4)][1:]
            slow, fast = (median(times) for times in zip(*runs, strict=True))
            tokens = batch * (setup.tokens if phase == "prefill" else 1)
            record[f"{phase} at batch {batch}, dense tokens/s"] = tokens / slow
            record[f"{phase} at batch {batch}, speed-up"] = slow / fast
    counts = [sum(weight.numel() for weight in model.parameters()) for model in (dense, small)]
    record["speed-up predicted by all parameters"] = counts[0] / counts[1]
    return record


@torch.inference_mode()
def _prefill(setup: Setup, model: PreTrainedModel, batch: int) -> float:
    prompt = random_text(model, batch, setup.tokens).to(setup.device)
    return timed(setup.device, lambda: model(input_ids=prompt, use_cache=False, logits_to_keep=1)).seconds


@torch.inference_mode()
def _decode(setup: Setup, model: PreTrainedModel, batch: int) -> float:
    """Seconds of one step after a prompt of DECODE_AFTER tokens.

    On CUDA the step is replayed as a graph: launched kernel by kernel from Python, a step of one sequence
    takes the time of the launches, whatever the size of the model.
    """
    prompt = random_text(model, batch, DECODE_AFTER).to(setup.device)
    cache = model(input_ids=prompt, use_cache=True, logits_to_keep=1).past_key_values
    token = prompt[:, -1:].clone()

    # One token sees all before it, so no mask is needed. Under capture transformers would build one all the
    # same, and with a mask keys and values are copied for every query head: Qwen2 takes a mask by kind.
    no_mask = {"full_attention": None} if setup.device.type == "cuda" else None

    def step() -> None:
        model(
            input_ids=token,
            attention_mask=no_mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )

    run: Callable[[], object] = step
    for _ in range(3):
        step()
    if setup.device.type == "cuda":
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        run = graph.replay
    return timed(setup.device, lambda: [run() for _ in range(20)]).seconds / 20
