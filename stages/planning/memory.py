"""How much memory the stages need at once: an estimate from sizes, before anything runs."""

import copy

import torch
from transformers import PreTrainedModel

from secateurs.choose.target import decoder_share
from secateurs.families.decoder import decoder_layers, decoder_parameters, text_config
from secateurs.families.experts import open_experts
from secateurs.kinds.sites import sites_of
from stages.params.file import Params
from stages.planning.estimate import portions

# Bytes of a float32, which targets and logits are in whatever the weights are in.
FLOAT = 4
# The interpreter with its libraries.
PROGRAM = 0.4e9


def peak_memory(params: Params, model: PreTrainedModel) -> dict[str, float]:
    """Bytes that each of the stages with a model in memory holds at its peak, by its name.

    For P parameters of b bytes, B tokens a batch, L layers of hidden size d with f features at their widest
    site, vocabulary V:

    - capture: P b, and of its backward pass B L (8 d + 4 f) b activations (B (L d + 8 d + 4 f) b where
      checkpointing repeats the forward pass), and logits, their gradient and softmax: 12 B V
    - surgery: P b, two streams and a target of all healing tokens T: T d (2 b + 4), and the Gram matrix of
      that site with its float64 copy: 12 f^2
    - evaluate pruned: both models and 8 B V for the logits

    Allocators keep more than is held, and libraries work in buffers of their own: taken as a tenth; and
    the program itself as 0.4 GB. The default run's capture was estimated so at 2.0 GB and took 2.2.
    """
    config, corpus = model.config, params.corpus
    dtype = torch.finfo(getattr(torch, params.compute.dtype)).bits // 8
    own = text_config(config)
    hidden, vocabulary = own.hidden_size, own.vocab_size
    inner = max(site.features for site in sites_of(open_experts(copy.deepcopy(model))))
    weights = float(model.num_parameters() * dtype)
    pruned = weights - decoder_share(model, params.prune) * decoder_parameters(model) * dtype
    layers = len(decoder_layers(model))
    inside = (8 * hidden + 4 * inner) * dtype
    batch = params.capture.batch_size * corpus.sequence_length
    held = layers * hidden * dtype + inside if params.capture.checkpointing else layers * inside
    captured = batch * ((held if params.capture.gradients else inside) + 12 * vocabulary)
    used = sum(part for domain, part in portions(params).items() if params.mixture[domain] > 0)
    healed = used * params.surgery.sequences * corpus.sequence_length
    if params.surgery.heal == "none":
        healed = 0
    scored = params.evaluate.batch_size * corpus.sequence_length * 8 * vocabulary
    stages = {
        "capture": weights + captured,
        "surgery": weights + healed * hidden * (2 * dtype + FLOAT) + 12.0 * inner**2,
        "evaluate pruned": weights + pruned + scored,
    }
    return {name: PROGRAM + 1.1 * size for name, size in stages.items()}
