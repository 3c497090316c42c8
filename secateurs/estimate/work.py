"""How long a pruning will take and what it will write: an estimate from sizes, before anything runs."""

import copy
import time
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from secateurs.choose.options import Options
from secateurs.choose.target import decoder_share, whole_parameters
from secateurs.estimate.read_tokens import Reading
from secateurs.estimate.streaming_needs import streaming
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.decoder import decoder_layers, decoder_parameters, text_config
from secateurs.families.fused_experts import open_experts
from secateurs.kinds.sites import sites_of
from secateurs.settings.method import Settings

# Forward and backward passes reach this fraction of the speed of large matrix products: measured in the
# default run on two cores and, on an H200, with Qwen2.5-7B's shapes (data/bench).
EFFICIENCY = 0.6
# Bytes a second that a capture reads of a model that it streams: those of a plain solid-state disk.
DISK_SPEED = 1e9


@dataclass(frozen=True)
class Work:
    """A step: how many times it runs, and for each run its tokens, operations, bytes left on disk, and bytes
    read of a model as it works."""

    name: str
    runs: int
    tokens: int
    operations: float
    disk: float
    read: float = 0.0

    def seconds(self, speed: float, start: float = 0.0) -> float:
        """Of all its runs, at `speed` operations a second and `start` seconds before each."""
        return self.runs * (start + self.operations / speed + self.read / DISK_SPEED)


def pruning_work(
    model: PreTrainedModel, settings: Settings, reading: Reading, tried: Options | None = None
) -> list[Work]:
    """The rounds and the surgery of a pruning, in order; tried: by the trials of `sites: auto`, before them.

    model: the dense one, on the meta device or with weights. A token costs two operations per multiply-add
    forward, as many again for gradients with respect to activations (weights are frozen), and again where
    checkpointing repeats the forward pass. Healing runs a pruned stream, with `residual` a dense one too,
    and sums, at each site of k kept channels and d outputs, k (k + d) products per token, of which
    half-precision devices are taken to do half as many a second; `auto` is `residual` with k d products
    more, and runs three streams of the text that it chooses by. Reconstruction takes three more streams an
    epoch, because its gradients are with respect to weights too; rows of tokens are trained by four forward
    passes, of which the dense model's is one. Trials capture once, heal by fewer sequences each, and score
    the left-out rows after each and before all. A mixture's capture runs the output projection of every
    expert on all tokens (fused_experts.Expert); one that streams the model reads it anew. Attention scores
    and solving are left out.
    """
    forward = 2.0 * macs_per_token(model)
    decoder = decoder_parameters(model)
    # A copy, because multiply-adds are counted with the experts closed.
    opened = open_experts(copy.deepcopy(model))
    sites = sites_of(opened, tuple(settings.prune.sites))
    channels = sum(site.features for site in sites)
    share = decoder_share(opened, settings.prune)
    captured, healed = reading.captured(settings), reading.healed_by(settings)
    chosen_by, trained_on = reading.chosen_by(settings), reading.trained_on(settings)
    refits = [one for site in sites for one in site.kind.refits(decoder_layers(opened)[site.layer], site)]
    kept = [one.features * (1 - share) for one in refits]
    surgery, hidden = settings.surgery, text_config(model.config).hidden_size
    slower = 1 if reading.dtype == "float32" else 2
    streams = 1 + (surgery.heal != "least_squares") + 3 * surgery.reconstruct.epochs
    products = sum(k * (k + (1 + (surgery.method == "auto")) * hidden) for k in kept)
    healing, choosing = 2.0 * (streams * decoder + slower * products), 3 * 2.0 * decoder
    statistics = 4 if settings.capture.gradients else 2
    gradients = settings.capture.gradients
    passes = 1 + gradients + (gradients and settings.capture.checkpointing)
    written = reading.bytes_each * (whole_parameters(model, settings.prune) - share * decoder)
    return [
        *([] if tried is None else [_trials(settings, reading, tried, (forward, passes, healing, choosing))]),
        Work(
            "capture, each round",
            len(settings.rounds),
            captured,
            captured * (forward + _unrouted(model)) * passes,
            4.0 * statistics * len(reading.domains) * channels,
            streaming(model, settings, reading).read if settings.capture.layers == "streamed" else 0.0,
        ),
        Work("mask, each round", len(settings.rounds), 0, 0.0, 0.0),
        Work(
            "surgery",
            1,
            healed + chosen_by + trained_on,
            healed * healing + chosen_by * choosing + trained_on * 4 * forward,
            written,
        ),
    ]


def _trials(
    settings: Settings, reading: Reading, tried: Options, costs: tuple[float, int, float, float]
) -> Work:
    """costs: operations a token of a forward pass, of how many a capture is, of healing, and of choosing."""
    forward, passes, healing, choosing = costs
    trials = sum(map(len, tried.decoder.values()))
    judged = (trials + len(tried.rows) + 1) * reading.left_out(settings)
    captured, chosen_by = reading.captured(settings), reading.chosen_by(settings)
    fewer = min(1.0, settings.prune.auto.sequences / settings.surgery.sequences)
    few = trials * reading.healed_by(settings) * fewer
    operations = (captured * passes + judged) * forward + few * healing + trials * chosen_by * choosing
    return Work("kinds", 1, captured + judged + int(few), operations, 0.0)


def _unrouted(model: PreTrainedModel) -> float:
    """Operations a token of the output projections of the experts that it is not given to."""
    chosen = getattr(text_config(model.config), "num_experts_per_tok", 0)
    fused = [one for name, one in model.named_parameters() if one.dim() == 3 and name.endswith(".down_proj")]
    return 2.0 * sum((len(one) - chosen) * one[0].numel() for one in fused)


def measure_speed(device: torch.device, dtype: str, seconds: float = 0.5) -> float:
    """Operations a second of large matrix products on a device, by doing them for a moment."""
    # Smaller on a CPU, because some multiply half precision a hundred times as slowly as single.
    size = 512 if device.type == "cpu" else 2048
    left = torch.ones(size, size, device=device, dtype=getattr(torch, dtype))
    wait = torch.get_device_module(device).synchronize if device.type != "cpu" else lambda: None
    left @ left
    wait()
    start, products = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        left @ left
        products += 1
        wait()
    return products * 2 * size**3 / (time.perf_counter() - start)
