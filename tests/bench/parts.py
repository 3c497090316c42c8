"""What is measured. Every part takes a Setup and returns a flat record of figures for one table row."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from transformers import PreTrainedModel

from stages.evaluation.likelihood import Continuation, Ids, likelihoods
from stages.pruning.capture import LOSS_EVERY, DomainCapture, capture
from stages.pruning.healing import Moments, ridge_refit
from stages.pruning.loss import sequence_losses
from stages.pruning.settings import Healing
from stages.pruning.sites import Site, sites_of
from stages.pruning.surgery import prune
from stages.text.writing import write
from tests.bench.clock import Timing, backward_operations, forward_operations, timed
from tests.bench.floors import ceilings, fisher_floor, reading_floor, surgery_floor, writing_floor
from tests.bench.shapes import SHAPES, cut_model, masks_at, random_model, random_text

Record = dict[str, float]
DECODE_AFTER = 256
# Tokens of an ending that is scored, and tokens that are written after a prompt.
ENDING, WRITTEN = 8, 128
HEALING = Healing("residual", alpha=0.6, ridge=0.15)


@dataclass(frozen=True)
class Setup:
    """A shape on a device, and how much text: `sequences` of `tokens`, in batches of `batch`.

    surgery_batch: of surgery, which keeps nothing for a backward pass; None: as many.
    """

    shape: str
    device: torch.device
    dtype: torch.dtype
    sequences: int
    tokens: int
    batch: int
    checkpointing: bool = False
    layers: int | None = None
    surgery_batch: int | None = None

    def model(self, **changes: int) -> PreTrainedModel:
        """The shape, or its first `layers`, with random weights, on the device."""
        fewer = {} if self.layers is None else {"num_hidden_layers": self.layers}
        return random_model(self.shape, self.dtype, self.device, **fewer, **changes)


def capture_speed(setup: Setup) -> Record:
    """A capture with and without backward pass against the same passes without any statistics."""
    model = setup.model()
    ids = random_text(model, setup.sequences, setup.tokens)
    count = ids.numel()
    sites = sites_of(model, ("mlp",))
    _pass(setup, model, [], ids[: setup.batch], True)
    bare_forward = _pass(setup, model, [], ids, False)
    forward = _pass(setup, model, sites, ids, False)
    bare = _pass(setup, model, [], ids, True)
    fisher = _pass(setup, model, sites, ids, True)
    machine = ceilings(setup.device, setup.dtype)
    ceiling, floor = machine.model, fisher_floor(model, setup.sequences, setup.tokens, machine)
    return {
        "matmul ceiling, TFLOP/s": ceiling / 1e12,
        "forward-only round, s": forward.seconds,
        "forward-only round, tokens/s": count / forward.seconds,
        "forward-only round / bare forward, speed": bare_forward.seconds / forward.seconds,
        "bare forward, share of ceiling": count
        * forward_operations(model, setup.tokens, head=1 / LOSS_EVERY)
        / bare_forward.seconds
        / ceiling,
        "Fisher round, s": fisher.seconds,
        "Fisher round, floor, s": floor,
        "Fisher round / floor, time": fisher.seconds / floor,
        "Fisher round, tokens/s": count / fisher.seconds,
        "forward-only round / Fisher round, time": forward.seconds / fisher.seconds,
        "Fisher round / bare forward + backward, speed": bare.seconds / fisher.seconds,
        "bare forward + backward, share of ceiling": count
        * backward_operations(model, setup.tokens)
        / bare.seconds
        / ceiling,
        "forward-only peak, GiB": forward.peak_gib,
        "Fisher peak, GiB": fisher.peak_gib,
    }


def _pass(
    setup: Setup, model: PreTrainedModel, sites: list[Site], ids: torch.Tensor, gradients: bool
) -> Timing:
    return timed(setup.device, lambda: captured(setup, model, sites, ids, gradients))


def captured(
    setup: Setup, model: PreTrainedModel, sites: list[Site], ids: torch.Tensor, gradients: bool
) -> dict[str, DomainCapture]:
    """A capture as the setup has it."""
    return capture(
        model,
        sites,
        {"text": ids},
        answers={},
        gradients=gradients,
        checkpointing=setup.checkpointing,
        batch_size=setup.batch,
        on_sequences=lambda _: None,
    )


def surgery_speed(setup: Setup) -> Record:
    """Healing at 20% against two plain forward passes over the same text."""
    model = setup.model()
    ids = random_text(model, setup.sequences, setup.tokens)
    _plain_forward(setup, model, ids[: setup.batch])
    forward = _plain_forward(setup, model, ids)
    machine = ceilings(setup.device, setup.dtype)
    kept = int(next(mask for name, mask in masks_at(model, 0.2).items() if "mlp" in name).sum())
    floor = surgery_floor(model, kept, setup.sequences, setup.tokens, machine)
    healed = surgery(setup, model, ids)
    return {
        "surgery, s": healed.seconds,
        "surgery, floor, s": floor,
        "surgery / floor, time": healed.seconds / floor,
        "surgery, tokens/s": ids.numel() / healed.seconds,
        "surgery / two plain forwards, time": healed.seconds / (2 * forward.seconds),
        "surgery peak, GiB": healed.peak_gib,
    }


def _plain_forward(setup: Setup, model: PreTrainedModel, ids: torch.Tensor) -> Timing:
    """A forward pass with the loss of every token."""

    @torch.no_grad()
    def run() -> None:
        for batch in ids.split(setup.batch):
            sequence_losses(model, batch.to(setup.device))

    return timed(setup.device, run)


def surgery_alone(setup: Setup) -> Record:
    """Healing at 20% of a model that is too large to time a plain forward pass too."""
    model = setup.model()
    healed = surgery(setup, model, random_text(model, setup.sequences, setup.tokens))
    return {"surgery, s": healed.seconds, "surgery peak, GiB": healed.peak_gib}


def surgery(setup: Setup, model: PreTrainedModel, ids: torch.Tensor) -> Timing:
    """Healing at 20%, in place, of a model that is moved to host memory first."""
    model.to("cpu")
    if setup.device.type == "cuda":
        torch.cuda.empty_cache()
    return timed(
        setup.device,
        lambda: prune(
            model,
            masks_at(model, 0.2),
            {"text": ids},
            {"text": 1.0},
            HEALING,
            left_out={},
            device=setup.device,
            batch_size=setup.surgery_batch or setup.batch,
            on_layer=lambda: None,
        ),
    )


def four_rounds(setup: Setup) -> Record:
    """Four Fisher rounds on models cut ever further, and surgery: what a whole pruning costs."""
    seconds = []
    for share in (0.0, 0.05, 0.10, 0.15):
        model = cut_model(setup.model(), share)
        ids = random_text(model, setup.sequences, setup.tokens)
        seconds.append(_pass(setup, model, sites_of(model, ("mlp",)), ids, True).seconds)
        del model
    healed = surgery(setup, setup.model(), ids)
    return {
        **{f"round {number}, s": value for number, value in enumerate(seconds, 1)},
        "surgery, s": healed.seconds,
        "all, s": sum(seconds) + healed.seconds,
    }


def whole_rounds(setup: Setup) -> Record:
    """A forward-only and a Fisher round of a model too large to time passes without statistics too."""
    model = setup.model()
    ids = random_text(model, setup.sequences, setup.tokens)
    sites = sites_of(model, ("mlp",))
    forward, fisher = (_pass(setup, model, sites, ids, gradients) for gradients in (False, True))
    return {
        "forward-only round, s": forward.seconds,
        "forward-only peak, GiB": forward.peak_gib,
        "Fisher round, s": fisher.seconds,
        "Fisher peak, GiB": fisher.peak_gib,
        "forward-only round / Fisher round, time": forward.seconds / fisher.seconds,
    }


def by_size(setup: Setup) -> Record:
    """A Fisher round, surgery at 20%, and how many parameters the shape has: to be read across shapes."""
    model = setup.model()
    parameters = sum(weight.numel() for weight in model.parameters())
    ids = random_text(model, setup.sequences, setup.tokens)
    sites = sites_of(model, ("mlp",))
    _pass(setup, model, sites, ids[: setup.batch], True)
    fisher = _pass(setup, model, sites, ids, True)
    healed = surgery(setup, model, ids)
    return {
        "parameters, billions": parameters / 1e9,
        "Fisher round, s": fisher.seconds,
        "Fisher peak, GiB": fisher.peak_gib,
        "surgery, s": healed.seconds,
        "surgery peak, GiB": healed.peak_gib,
    }


def growth(setup: Setup) -> Record:
    """How time grows with tokens, depth and mlp width, on a few layers and a small vocabulary.

    A pass has a part that an axis does not touch (the head, say), so the time at size three is held against
    the line through those at sizes one and two: 1 where growth is linear. Surgery's solves, which grow with
    the cube of the width, are timed alone and left out; its k (k + d) products per token are in.
    """
    width, few = SHAPES[setup.shape].intermediate_size, {"num_hidden_layers": 6, "vocab_size": 8192}
    axes: dict[str, Callable[[int], tuple[dict[str, int], int]]] = {
        "tokens": lambda n: (few, n * setup.sequences),
        "depth": lambda n: ({**few, "num_hidden_layers": 3 * n}, setup.sequences),
        "width": lambda n: ({**few, "intermediate_size": n * width // 2}, setup.sequences),
    }
    record: Record = {}
    for axis, at in axes.items():
        for name, run in (("Fisher round", _fisher), ("surgery without its solves", _without_solves)):
            one, two, three = _grown(setup, run, [at(n) for n in (1, 2, 3)])
            record[f"{name} over {axis}, time / linear"] = three / (2 * two - one)
    return record


def _grown(
    setup: Setup, run: Callable[..., float], sizes: list[tuple[dict[str, int], int]]
) -> Iterator[float]:
    """The least seconds of four runs at each size, in turn, so that what slows a machine slows all."""
    times: list[list[float]] = [[] for _ in sizes]
    for _ in range(4):
        for seen, (changes, sequences) in zip(times, sizes, strict=True):
            model = setup.model(**changes)
            ids = random_text(model, sequences, setup.tokens)
            # A device that has just waited runs at higher clocks than one at work.
            _fisher(setup, model, ids[: setup.batch])
            seen.append(run(setup, model, ids))
    return map(min, times)


def _fisher(setup: Setup, model: PreTrainedModel, ids: torch.Tensor) -> float:
    return _pass(setup, model, sites_of(model, ("mlp",)), ids, True).seconds


def _without_solves(setup: Setup, model: PreTrainedModel, ids: torch.Tensor) -> float:
    healed = surgery(setup, model, ids).seconds
    return healed - model.config.num_hidden_layers * _solve(setup, model)


def _solve(setup: Setup, model: PreTrainedModel) -> float:
    """Seconds that the refit of one layer of a model that was cut takes once its moments are summed."""
    weight = model.base_model.layers[0].mlp.down_proj.weight.to(setup.device)
    moments = Moments(weight.shape[1], weight.shape[0], setup.device)
    tokens = 2 * weight.shape[1]
    target, x = (torch.randn(1, tokens, size, device=setup.device) for size in weight.shape)
    moments.add(x, target, 1.0)
    return timed(setup.device, lambda: ridge_refit(moments, weight, HEALING.ridge)).seconds


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

    def run(rows: list[Ids], tokens: int) -> None:
        write(model, rows, tokens, lambda logits, _, __: logits.argmax(dim=-1), look=tokens)

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

    run: Callable[[], None] = step
    for _ in range(3):
        step()
    if setup.device.type == "cuda":
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        run = graph.replay
    return timed(setup.device, lambda: [run() for _ in range(20)]).seconds / 20


def gram_error(setup: Setup) -> Record:
    """Relative error (Frobenius) of a Gram matrix as surgery sums it against one in float64."""
    generator = torch.Generator(setup.device).manual_seed(0)
    x = torch.randn(8, 2048, 2048, device=setup.device, generator=generator).to(setup.dtype)
    moments = Moments(2048, 2048, setup.device)
    for batch in x.split(2):
        moments.add(batch, batch.float(), 1.0)
    rows = x.flatten(0, 1).double()
    exact = rows.T @ rows
    record: Record = {}
    for name, found, true in (
        ("Gram", moments.gram.tril(), exact.tril()),
        ("cross", moments.cross, exact),
    ):
        record[f"{name}, relative error"] = float((found - true).norm() / true.norm())
    return record
