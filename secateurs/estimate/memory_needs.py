"""How much memory a pruning needs at once: an estimate from sizes, before anything runs."""

import copy
from dataclasses import dataclass

from transformers import PreTrainedModel

from secateurs.choose.target import decoder_share
from secateurs.estimate.read_tokens import Reading
from secateurs.estimate.streaming_needs import streaming
from secateurs.families.decoder import decoder_layers, decoder_parameters, text_config
from secateurs.families.fused_experts import open_experts
from secateurs.inference.loss import CHUNK_TOKENS
from secateurs.kinds.sites import sites_of
from secateurs.recover.memory import FLOAT, PROGRAM
from secateurs.settings.method import Settings

# Decoder layers that an accelerator holds in surgery: one on its way, one at work with its healed copy, one
# on its way back.
LAYERS = 4


@dataclass(frozen=True)
class Need:
    """Bytes of the device at a step's peak: as the settings have it, and the least that it gets by with.

    On an accelerator batches shrink until they fit, and streams of hidden states go to host memory.
    """

    usual: float
    least: float


def memory_needs(
    model: PreTrainedModel, settings: Settings, reading: Reading, device: str
) -> dict[str, Need]:
    """What each step with a model in memory needs, by its name. device: its type, cpu or cuda.

    For P parameters of b bytes, B tokens a batch, L layers of hidden size d with f features at their widest
    site, vocabulary V, of which the logits of at most C = CHUNK_TOKENS exist at once:

    - capture: P b, and of its backward pass B L (8 d + 4 f) b activations (B (L d + 8 d + 4 f) b where
      checkpointing repeats the forward pass), and logits, their gradient and softmax: 12 C V. Streamed it
      has embeddings, head and the largest layer for P b, on a CPU that layer twice and all hidden states
    - surgery: P b on a CPU and LAYERS layers on an accelerator, two streams and a target of all healing
      tokens T: T d (2 b + 4), and the Gram matrix of that site, its float64 copy and factor: 16 f^2. Rows of
      tokens are trained with two models, P (4 + b), 16 V d for gradients and means, and of a sequence of S
      tokens activations and 20 S V for logits; on a CPU beside the two models of the surgery, 2 P b
    - evaluation: P b and 8 C V for the logits; timings: both models

    Allocators keep more than is held, and libraries work in buffers of their own: taken as a tenth; and
    the program itself as 0.4 GB. Qwen2.5's shapes on an H200 with 4,096 tokens a batch and 65,536 of healing
    (data/bench/sizes.json, GiB): capture of 0.5B 7.2, 1.5B 15.1, 7B 39.0, estimated at 7.7, 15.8, 41.4;
    surgery 1.6, 3.2, 10.2, estimated at 1.4, 2.9, 10.1.
    """
    own, each = text_config(model.config), reading.bytes_each
    hidden, logits = own.hidden_size, CHUNK_TOKENS * own.vocab_size
    opened = open_experts(copy.deepcopy(model))
    inner = max(site.features for site in sites_of(opened))
    weights, decoder = float(model.num_parameters() * each), float(decoder_parameters(model) * each)
    layers = len(decoder_layers(model))
    inside = (8 * hidden + 4 * inner) * each
    held = layers * hidden * each + inside if settings.capture.checkpointing else layers * inside
    held = held if settings.capture.gradients else inside
    streams = reading.healed_by(settings) * hidden * (2 * each + FLOAT)
    surgery = (weights if device == "cpu" else LAYERS * decoder / layers) + 16.0 * inner**2
    if reading.trained_on(settings):
        two, row = model.num_parameters() * (FLOAT + each), reading.tokens * own.vocab_size
        rows = 16.0 * own.vocab_size * hidden + 20.0 * row + reading.tokens * layers * inside * FLOAT / each
        surgery = max(surgery, two + rows + (2 * weights if device == "cpu" else 0.0))
    captured = weights
    if settings.capture.layers == "streamed":
        parts = streaming(model, settings, reading)
        # In host memory a layer's tensors lie beside what they are put together of.
        captured = parts.ends + (parts.layer if device != "cpu" else 2 * parts.layer + parts.hidden)
    pruned = weights - decoder_share(opened, settings.prune) * decoder
    tokens, batch = reading.tokens, settings.capture.batch_size

    def need(fixed: float, shrinking: float, least: float) -> Need:
        usual, smallest = (PROGRAM + 1.1 * (fixed + part) for part in (shrinking, least))
        return Need(usual, usual if device == "cpu" else smallest)

    return {
        "capture": need(captured + 12 * logits, batch * tokens * held, tokens * held),
        "surgery": need(surgery, streams, 0.0),
        "evaluation": need(weights + 8 * logits, 0.0, 0.0),
        "timings": need(weights + pruned, 0.0, 0.0),
    }


def fewer_bytes(step: str, settings: Settings, device: str) -> list[str]:
    """Settings by which a step of memory_needs takes less; batches shrink by themselves on an accelerator."""
    if step != "capture":
        return []
    again = settings.capture.gradients and not settings.capture.checkpointing
    smaller = settings.capture.batch_size > 1 and device == "cpu"
    return [
        *(["capture.checkpointing: true"] if again else []),
        *(["capture.batch_size: 1"] if smaller else []),
    ]
