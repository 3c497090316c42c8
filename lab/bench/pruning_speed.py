"""What is measured of capture and surgery. A part takes a Setup and returns the figures of a table's row."""

import torch
from transformers import PreTrainedModel

from lab.bench.clock import Timing, backward_operations, forward_operations, timed
from lab.bench.floors import ceilings, fisher_floor, surgery_floor
from lab.bench.setup import Record, Setup
from lab.bench.shapes import cut_model, masks_at, random_text
from secateurs.devices.placement import place
from secateurs.heal.layers import HealingText, cut_and_heal
from secateurs.heal.ridge import Moments
from secateurs.inference.loss import sequence_losses
from secateurs.kinds.kind import Site
from secateurs.kinds.sites import sites_of
from secateurs.measure.capture import LOSS_EVERY, DomainCapture, capture
from secateurs.settings.pruning import Capture, Surgery
from secateurs.text.rows import Text

HEALING = Surgery(heal="residual", alpha=0.6, ridge=0.15)


def capture_speed(setup: Setup) -> Record:
    """A capture with and without backward pass against the same passes without any statistics."""
    model = setup.model()
    ids = random_text(model, setup.sequences, setup.tokens)
    count = ids.numel()
    sites = sites_of(model, ("mlp",))
    one_pass(setup, model, [], ids[: setup.batch], True)
    bare_forward = one_pass(setup, model, [], ids, False)
    forward = one_pass(setup, model, sites, ids, False)
    bare = one_pass(setup, model, [], ids, True)
    fisher = one_pass(setup, model, sites, ids, True)
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


def one_pass(
    setup: Setup, model: PreTrainedModel, sites: list[Site], ids: torch.Tensor, gradients: bool
) -> Timing:
    """A pass of capture over `ids`, with statistics of `sites`."""
    return timed(setup.device, lambda: captured(setup, model, sites, ids, gradients))


def captured(
    setup: Setup, model: PreTrainedModel, sites: list[Site], ids: torch.Tensor, gradients: bool
) -> dict[str, DomainCapture]:
    """A capture as the setup has it."""
    settings = Capture(gradients=gradients, checkpointing=setup.checkpointing, batch_size=setup.batch)
    return capture(model, sites, Text({"text": ids}), settings)


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
    place(model, "cpu")
    if setup.device.type == "cuda":
        torch.cuda.empty_cache()
    return timed(
        setup.device,
        lambda: cut_and_heal(
            model,
            masks_at(model, 0.2),
            HealingText({"text": ids}, {"text": 1.0}),
            HEALING,
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
        seconds.append(one_pass(setup, model, sites_of(model, ("mlp",)), ids, True).seconds)
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
    forward, fisher = (one_pass(setup, model, sites, ids, gradients) for gradients in (False, True))
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
    one_pass(setup, model, sites, ids[: setup.batch], True)
    fisher = one_pass(setup, model, sites, ids, True)
    healed = surgery(setup, model, ids)
    return {
        "parameters, billions": parameters / 1e9,
        "Fisher round, s": fisher.seconds,
        "Fisher peak, GiB": fisher.peak_gib,
        "surgery, s": healed.seconds,
        "surgery peak, GiB": healed.peak_gib,
    }


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
