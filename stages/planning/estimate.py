"""How long a run will take and what it will write: an estimate from sizes, before anything runs."""

import copy
import time
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from secateurs.choose.options import Options
from secateurs.choose.target import decoder_share, whole_parameters
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.decoder import decoder_layers, decoder_parameters, text_config
from secateurs.families.fused_experts import open_experts
from secateurs.kinds.sites import sites_of
from secateurs.settings.sources import DIALOGUE_DOMAIN, SELF_DOMAIN
from stages.params.file import Params
from stages.planning.schedule import portions

# Forward and backward passes reach this fraction of the speed of large matrix products: measured in the
# default run on two cores and, on an H200, with Qwen2.5-7B's shapes (data/bench).
EFFICIENCY = 0.6
# Starting Python, importing the libraries and loading a model.
START_SECONDS = 8.0
# Tokens of all choices of one zero-shot item, roughly; stock tasks with long passages have more.
ITEM_TOKENS = 100


@dataclass(frozen=True)
class Work:
    """A stage: how many times it runs, and for each run its tokens, operations and bytes left on disk."""

    name: str
    runs: int
    tokens: int
    operations: float
    disk: float

    def seconds(self, speed: float) -> float:
        """Of all its runs, at `speed` operations a second."""
        return self.runs * (START_SECONDS + self.operations / speed)


def estimate_work(params: Params, model: PreTrainedModel, tried: Options | None = None) -> list[Work]:
    """The stages whose work grows with model and text, in order; tried: by the trials of `sites: auto`.

    A token costs two operations per multiply-add forward, as many again for gradients with respect to
    activations (weights are frozen), and again where checkpointing repeats the forward pass. Healing runs a
    pruned stream, with `residual` a dense one too, and sums, at each site of k kept channels and d outputs, k
    (k + d) products per token, of which half-precision devices are taken to do half as many a second;
    `auto` is `residual` with k d products more, and runs three streams of the text that it chooses by.
    Reconstruction takes three more streams an epoch, because its gradients are with respect to weights too.
    Trials capture once, heal by fewer sequences each, and score the left-out rows after each and before all.
    Attention scores, solving, and tasks without a limit on their items are left out.
    """
    corpus, parts = params.corpus, portions(params)
    forward = 2.0 * macs_per_token(model)
    decoder = decoder_parameters(model)
    weight_bytes = torch.finfo(getattr(torch, params.compute.dtype)).bits // 8
    # A copy, because multiply-adds are counted with the experts closed.
    opened = open_experts(copy.deepcopy(model))
    sites, layers = sites_of(opened, tuple(params.prune.sites)), decoder_layers(opened)
    channels = sum(site.features for site in sites)
    hidden = text_config(model.config).hidden_size

    sampled = params.sample.documents * params.sample.tokens if params.mixture[SELF_DOMAIN] else 0
    if params.mixture[DIALOGUE_DOMAIN]:
        dialogues = params.sample.dialogues
        sampled += dialogues.count * (dialogues.question.tokens + dialogues.answer.tokens)
    captured = sum(parts.values()) * params.capture.sequences * corpus.sequence_length
    used = sum(part for domain, part in parts.items() if params.mixture[domain] > 0)
    surgery, auto, by = params.surgery, params.surgery.method == "auto", params.prune.auto
    healed = 0 if surgery.heal == "none" else used * surgery.sequences * corpus.sequence_length
    chosen_by = used * surgery.choice_sequences * corpus.sequence_length if auto else 0
    share = decoder_share(model, params.prune)
    refits = [one for site in sites for one in site.kind.refits(layers[site.layer], site)]
    kept = [one.features * (1 - share) for one in refits]
    slower = 1 if params.compute.dtype == "float32" else 2
    streams = 1 + (surgery.heal != "least_squares") + 3 * surgery.reconstruct.epochs
    healing = 2.0 * streams * decoder + 2.0 * slower * sum(k * (k + (1 + auto) * hidden) for k in kept)
    scored = len(params.domains) * corpus.heldout_sequences * corpus.sequence_length
    asked = params.evaluate.limit * len(params.benchmarks) * ITEM_TOKENS
    timed = (
        2 * (params.evaluate.repeats + 1) * (params.evaluate.prompt_tokens + params.evaluate.decode_tokens)
    )
    statistics = 4 if params.capture.gradients else 2
    passes = 1 + params.capture.gradients + (params.capture.gradients and params.capture.checkpointing)
    trials = 0 if tried is None else sum(map(len, tried.decoder.values()))
    judged = 0 if tried is None else (trials + len(tried.rows) + 1) * sum(parts.values()) * by.left_out
    judged *= corpus.sequence_length
    few = trials * healed * min(1.0, by.sequences / surgery.sequences)
    trial_operations = captured * forward * passes + judged * forward + few * healing
    trial_operations += trials * chosen_by * 3 * 2.0 * decoder
    dense_bytes = model.num_parameters() * weight_bytes
    pruned_bytes = (whole_parameters(model, params.prune) - share * decoder) * weight_bytes
    return [
        Work("model", 1, 0, 0.0, dense_bytes),
        Work("sample", 1, sampled, sampled * forward, 0.0),
        *([] if tried is None else [Work("kinds", 1, captured + judged + int(few), trial_operations, 0.0)]),
        Work(
            "capture, each round",
            len(params.rounds),
            captured,
            captured * forward * passes,
            4.0 * statistics * len(parts) * channels,
        ),
        Work("mask, each round", len(params.rounds), 0, 0.0, 0.0),
        Work(
            "surgery", 1, healed + chosen_by, healed * healing + chosen_by * 3 * 2.0 * decoder, pruned_bytes
        ),
        Work("evaluate dense", 1, scored + asked, (scored + asked) * forward, 0.0),
        Work("evaluate pruned", 1, scored + asked, (scored + asked) * forward, 0.0),
        Work("timings", 1, timed, timed * forward, 0.0),
    ]


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
