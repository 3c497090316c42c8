"""How much memory a recovery needs at once: an estimate from sizes, before anything runs."""

import copy
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from secateurs.choose.target import decoder_share, whole_parameters
from secateurs.devices.capacity import Capacity
from secateurs.errors import SettingError
from secateurs.evaluation.units import size
from secateurs.families.decoder import decoder_layers, decoder_parameters, text_config
from secateurs.families.fused_experts import open_experts
from secateurs.inference.loss import CHUNK_TOKENS
from secateurs.kinds.channels import ChannelSite, output_projection
from secateurs.kinds.sites import sites_of
from secateurs.recover.routers import router_weights
from secateurs.settings.pruning import Prune
from secateurs.settings.recovery import Training

# Bytes of a float32, which weights that are trained are in whatever the others are in.
FLOAT = 4
# The interpreter with its libraries.
PROGRAM = 0.4e9
# Bytes that a trained parameter takes: its weight, gradient, both means of the optimizer, and its value at
# the best look.
TRAINED = 20
# Of these both means; in 8 bits, with a float32 for every 256.
MEANS, MEANS_8BIT = 8.0, 2 + 2 * FLOAT / 256


@dataclass(frozen=True)
class Recovery:
    """What the memory of a recovery follows from, beside the dense model.

    prune: how much is gone. half: whether both models multiply matrices in bfloat16, which no CPU does.
    tokens: of a sequence; question: at most, of a question that is answered.
    """

    training: Training
    prune: Prune
    half: bool
    tokens: int
    question: int = 0


def recovery_need(recovery: Recovery, model: PreTrainedModel, processes: int = 1) -> float:
    """Bytes of the device at the peak of a recovery.

    processes: how many share decoders and what trains them, with weights: all; each then gathers one layer of
    either model and the next one.

    model: the dense one, on the meta device or with weights. For a dense model of P parameters, D of them in
    the decoder, of b bytes (2 where `half`, or else 4), E = P - D, a pruned one with decoder d < D, F trained
    parameters, T tokens at once and C = CHUNK_TOKENS of them at the head, which has V rows:

        P b                                     the dense model; where tokens are gone, its whole head too
        + 4 E + 20 d + 2 d                      weights all; 2 d: casts to half precision; with
                                                optimizer: adamw_8bit 14 d, and below 14 F, for 20
        + 4 (E + d) + 20 F + 2 d                scales
        + d b + 20 F                            low_rank, routers: embeddings and head are the dense model's
        + T L (8 h + 4 f) b + 20 C V            activations of L layers of hidden size h and widest site f;
                                                with checkpointing T (L h + 8 h + 4 f) b
        + 2 (E + d) or d b, and keys and values while answers are written, a copy that writes; keys and values
          alone for training.abilities with measure: tokens

    With teacher: cached it is the larger of P b, while the file is written, and all else, to which these
    two then add E b. A tenth comes on top for what allocators keep, and the program itself. Estimated, not
    measured.
    """
    training, own, half = recovery.training, text_config(model.config), recovery.half
    each = 2 if half else FLOAT
    whole, decoder = whole_parameters(model, recovery.prune), decoder_parameters(model)
    ends = whole - decoder
    opened = open_experts(copy.deepcopy(model))
    pruned = decoder * (1 - decoder_share(opened, recovery.prune))
    inner = max(site.features for site in sites_of(opened))
    layers, factors = len(decoder_layers(model)), trained_beside(training, model)
    casts = 2 * pruned if half else 0
    of_trained = TRAINED - (MEANS - MEANS_8BIT if training.optimizer == "adamw_8bit" else 0)
    weights = {
        "all": FLOAT * ends + of_trained * pruned + casts,
        "scales": FLOAT * (ends + pruned) + casts,
        "low_rank": each * pruned,
        "routers": each * pruned,
    }[training.weights] + of_trained * factors
    dense = each * (whole + _beside_rows(model, recovery.prune))
    held = dense + weights
    if training.teacher == "cached":
        alone = weights + (each * ends if training.frozen else 0)
        held = max(dense, alone)
    if processes > 1:
        gathered = 2 * each * (decoder + pruned) / layers
        held = (each * decoder + of_trained * pruned) / processes + (dense - each * decoder) + FLOAT * ends
        held += gathered
    tokens = training.micro_batch_size * recovery.tokens
    inside = 8 * own.hidden_size + 4 * inner
    kept = layers * own.hidden_size + inside if training.checkpointing else layers * inside
    active = tokens * kept * each + 20 * CHUNK_TOKENS * own.vocab_size
    keys = layers * 2 * _keys(own) * each
    copied = (each * pruned if training.frozen else 2 * (ends + pruned)) if half else 0.0
    writing, looks = 0.0, training.abilities
    if looks.questions:
        read = min(looks.batch_size, looks.questions) * (recovery.question + looks.tokens)
        writing = read * keys + (copied if looks.measure == "numbers" else 0)
    if training.on_policy.share:
        read = training.on_policy.batch_size * (recovery.question + training.on_policy.tokens)
        writing = max(writing, copied + read * keys)
    # What writes is gone when activations come.
    return float(PROGRAM + 1.1 * (held + max(active, writing)))


def _beside_rows(model: PreTrainedModel, prune: Prune) -> int:
    """Parameters of the dense model's head that it has beside the rows that are left (pairing.cut_like)."""
    rows, embeddings = prune.vocabulary.rows, model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if not rows:
        return 0
    own = 0 if head.weight is embeddings.get_parameter("weight") else rows
    return int((len(head.weight) - own) * head.weight.shape[1])


def trained_beside(training: Training, model: PreTrainedModel) -> int:
    """How many parameters are trained beside a model's weights: none with weights: all.

    With scales and routers those of the dense model, and without its norms, which are few.
    """
    if training.weights == "all":
        return 0
    if training.weights == "routers":
        return sum(weight.numel() for weight in router_weights(model).values())
    opened = open_experts(copy.deepcopy(model))
    if training.weights == "scales":
        sites = [site for site in sites_of(opened) if isinstance(site, ChannelSite)]
        return sum(
            {id(one): one.in_features for one in (output_projection(opened, s) for s in sites)}.values()
        )
    layers = decoder_layers(opened)
    linear = {name: one for name, one in layers.named_modules() if isinstance(one, nn.Linear)}
    wanted = training.low_rank.targets
    chosen = [one for name, one in linear.items() if not wanted or name.rpartition(".")[2] in wanted]
    return sum(training.low_rank.rank * (one.in_features + one.out_features) for one in chosen)


def _keys(config: object) -> int:
    """Numbers of a token's keys in a layer."""
    heads = getattr(config, "num_attention_heads", 1)
    width = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 1) // heads
    return int((getattr(config, "num_key_value_heads", None) or heads) * width)


def lacks(need: float, device: Capacity) -> str:
    """What is said of work that needs more bytes than a device has; whose it is stands before it."""
    return f"needs about {size(need)} of memory at once and {device.kind} has {size(device.memory)}"


def check_recovery_fits(
    recovery: Recovery, model: PreTrainedModel, device: Capacity, processes: int = 1
) -> None:
    """Raise SettingError, with the numbers, where a recovery cannot fit in a device's memory.

    processes: over so many, each of which has such a device.
    """
    need = recovery_need(recovery, model, processes)
    if need <= device.memory:
        return
    small: dict[str, object] = {"micro_batch_size": 1, "checkpointing": True}
    ways: list[dict[str, object]] = [{"micro_batch_size": 1}, small, {"weights": "low_rank", **small}]
    if not recovery.training.on_policy.share:
        ways.append({"weights": "low_rank", **small, "teacher": "cached"})
    for way in ways:
        other = replace(recovery, training=recovery.training.changed(**way))
        less = recovery_need(other, model, 1 if "weights" in way else processes)
        if less <= device.memory:
            changes = ", ".join(f"recover.{key}: {str(value).lower()}" for key, value in way.items())
            remedy = f"{changes} needs {size(less)}"
            break
    else:
        remedy = f"with all that saves memory it still needs {size(less)}; use a larger machine"
    raise SettingError(f"recover.weights: {recovery.training.weights}: {lacks(need, device)}; {remedy}")
