"""How much memory the stages need at once: an estimate from sizes, before anything runs."""

import copy
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from secateurs.choose.target import decoder_share
from secateurs.families.decoder import decoder_layers, decoder_parameters, text_config
from secateurs.families.fused_experts import open_experts
from secateurs.inference.loss import CHUNK_TOKENS
from secateurs.kinds.sites import sites_of
from secateurs.recover.memory import FLOAT, PROGRAM
from stages.params.file import Params
from stages.planning.schedule import portions

# Decoder layers that an accelerator holds in surgery: one on its way, one at work with its healed copy, one
# on its way back.
LAYERS = 4


@dataclass(frozen=True)
class Need:
    """Bytes of the device at a stage's peak: as params.yaml has it, and the least that it gets by with.

    On an accelerator batches shrink until they fit, and streams of hidden states go to host memory.
    """

    usual: float
    least: float


def memory_needs(params: Params, model: PreTrainedModel, device: str) -> dict[str, Need]:
    """What each of the stages with a model in memory needs, by its name. device: its type, cpu or cuda.

    For P parameters of b bytes, B tokens a batch, L layers of hidden size d with f features at their widest
    site, vocabulary V, of which the logits of at most C = CHUNK_TOKENS exist at once:

    - capture: P b, and of its backward pass B L (8 d + 4 f) b activations (B (L d + 8 d + 4 f) b where
      checkpointing repeats the forward pass), and logits, their gradient and softmax: 12 C V
    - surgery: P b on a CPU and LAYERS layers on an accelerator, two streams and a target of all healing
      tokens T: T d (2 b + 4), and the Gram matrix of that site, its float64 copy and factor: 16 f^2
    - evaluation: P b and 8 C V for the logits; timings: both models

    Allocators keep more than is held, and libraries work in buffers of their own: taken as a tenth; and
    the program itself as 0.4 GB. Qwen2.5's shapes on an H200 with 4,096 tokens a batch and 65,536 of healing
    (data/bench/sizes.json, GiB): capture of 0.5B 7.2, 1.5B 15.1, 7B 39.0, estimated at 7.7, 15.8, 41.4;
    surgery 1.6, 3.2, 10.2, estimated at 1.4, 2.9, 10.1.
    """
    config, tokens = model.config, params.corpus.sequence_length
    dtype = torch.finfo(getattr(torch, params.compute.dtype)).bits // 8
    own = text_config(config)
    hidden, logits = own.hidden_size, CHUNK_TOKENS * own.vocab_size
    inner = max(site.features for site in sites_of(open_experts(copy.deepcopy(model))))
    weights, decoder = float(model.num_parameters() * dtype), float(decoder_parameters(model) * dtype)
    layers = len(decoder_layers(model))
    inside = (8 * hidden + 4 * inner) * dtype
    held = layers * hidden * dtype + inside if params.capture.checkpointing else layers * inside
    held = held if params.capture.gradients else inside
    used = sum(part for domain, part in portions(params).items() if params.mixture[domain] > 0)
    healed = 0 if params.surgery.heal == "none" else used * params.surgery.sequences * tokens
    streams = healed * hidden * (2 * dtype + FLOAT)
    surgery = (weights if device == "cpu" else LAYERS * decoder / layers) + 16.0 * inner**2
    pruned = weights - decoder_share(model, params.prune) * decoder

    def need(fixed: float, shrinking: float, least: float) -> Need:
        usual, smallest = (PROGRAM + 1.1 * (fixed + part) for part in (shrinking, least))
        return Need(usual, usual if device == "cpu" else smallest)

    return {
        "capture": need(weights + 12 * logits, params.capture.batch_size * tokens * held, tokens * held),
        "surgery": need(surgery, streams, 0.0),
        "evaluation": need(weights + 8 * logits, 0.0, 0.0),
        "timings": need(weights + pruned, 0.0, 0.0),
    }
