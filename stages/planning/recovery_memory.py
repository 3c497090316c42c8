"""How much memory a recovery needs at once: an estimate from sizes, before anything runs."""

import copy
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from secateurs.choose.target import decoder_share, whole_parameters
from secateurs.errors import InputError
from secateurs.evaluation.units import size
from secateurs.families.decoder import decoder_layers, decoder_parameters, text_config
from secateurs.families.fused_experts import open_experts
from secateurs.inference.loss import CHUNK_TOKENS
from secateurs.kinds.channels import ChannelSite, output_projection
from secateurs.kinds.sites import sites_of
from secateurs.recover.teacher_cache import bytes_of_sequence
from secateurs.settings.recovery import Recover
from stages.params.file import PARAMS_FILE, Params
from stages.planning.machine import Machine
from stages.planning.memory_needs import FLOAT, PROGRAM
from stages.recovering.text import rows_drawn

# Bytes that a trained parameter takes: its weight, gradient, both means of the optimizer, and its value at
# the best look.
TRAINED = 20


def recovery_need(params: Params, model: PreTrainedModel, device: str, processes: int = 1) -> float:
    """Bytes of the device at the peak of a recovery as params.yaml has it. device: its type, cpu or cuda.

    processes: how many share decoders and what trains them, with weights: all; each then gathers one layer of
    either model and the next one.

    model: the dense one, on the meta device or with weights. For a dense model of P parameters, D of them in
    the decoder, of b bytes (of compute.dtype on an accelerator, 4 on a CPU), E = P - D, a pruned one with
    decoder d < D, F trained parameters, T tokens at once and C = CHUNK_TOKENS of them at the head, which has
    V rows:

        P b                                     the dense model
        + 4 E + 20 d + 2 d                      weights all; 2 d: casts to half precision, on an accelerator
        + 4 (E + d) + 20 F + 2 d                scales
        + d b + 20 F                            low_rank: embeddings and head are the dense model's
        + T L (8 h + 4 f) b + 20 C V            activations of L layers of hidden size h and widest site f;
                                                with checkpointing T (L h + 8 h + 4 f) b
        + 2 (E + d) or d b, and keys and values while answers are written, a copy that writes; keys and values
          alone where the dense model answers the questions of recover.abilities

    With teacher: cached it is the larger of P b, while the file is written, and all else, to which low_rank
    then adds E b. A tenth comes on top for what allocators keep, and the program itself. Estimated, not
    measured.
    """
    recover, own = params.recover, text_config(model.config)
    half = device != "cpu" and params.compute.dtype == "bfloat16"
    each = 2 if half else FLOAT
    whole, decoder = whole_parameters(model, params.prune), decoder_parameters(model)
    ends = whole - decoder
    pruned = decoder * (1 - decoder_share(model, params.prune))
    inner = max(site.features for site in sites_of(open_experts(copy.deepcopy(model))))
    layers, factors = len(decoder_layers(model)), trained_beside(recover, model)
    casts = 2 * pruned if half else 0
    weights = {
        "all": FLOAT * ends + TRAINED * pruned + casts,
        "scales": FLOAT * (ends + pruned) + casts,
        "low_rank": each * pruned,
    }[recover.weights] + TRAINED * factors
    held = each * whole + weights
    if recover.teacher == "cached":
        alone = weights + (each * ends if recover.weights == "low_rank" else 0)
        held = max(each * whole, alone)
    if processes > 1:
        gathered = 2 * each * (decoder + pruned) / layers
        held = (each * decoder + TRAINED * pruned) / processes + (each + FLOAT) * ends + gathered
    tokens = recover.micro_batch_size * params.corpus.sequence_length
    inside = 8 * own.hidden_size + 4 * inner
    kept = layers * own.hidden_size + inside if recover.checkpointing else layers * inside
    active = tokens * kept * each + 20 * CHUNK_TOKENS * own.vocab_size
    asked, keys = params.sample.dialogues.question.tokens, layers * 2 * _keys(own) * each
    writing, looks = 0.0, recover.abilities
    if looks.questions:
        writing = min(looks.batch_size, looks.questions) * (asked + looks.tokens) * keys
    if recover.on_policy.share:
        copied = (each * pruned if recover.weights == "low_rank" else 2 * (ends + pruned)) if half else 0.0
        read = recover.on_policy.batch_size * (asked + recover.on_policy.tokens)
        writing = max(writing, copied + read * keys)
    # What writes is gone when activations come.
    return float(PROGRAM + 1.1 * (held + max(active, writing)))


def cache_bytes(params: Params) -> float:
    """Bytes of the file of `recover.teacher: cached`, which is deleted in the end; 0 with another teacher.

    At most: a sequence that is drawn twice stands there once.
    """
    recover, length = params.recover, params.corpus.sequence_length
    if recover.teacher != "cached":
        return 0.0
    return float(sum(rows_drawn(params).values()) * bytes_of_sequence(length, recover.cached.likeliest))


def trained_beside(recover: Recover, model: PreTrainedModel) -> int:
    """How many parameters are trained beside a model's weights: none with weights: all.

    With scales those of the dense model, and without its norms, which are few.
    """
    if recover.weights == "all":
        return 0
    opened = open_experts(copy.deepcopy(model))
    if recover.weights == "scales":
        sites = [site for site in sites_of(opened) if isinstance(site, ChannelSite)]
        return sum(
            {id(one): one.in_features for one in (output_projection(opened, s) for s in sites)}.values()
        )
    layers = decoder_layers(opened)
    linear = {name: one for name, one in layers.named_modules() if isinstance(one, nn.Linear)}
    wanted = recover.low_rank.targets
    chosen = [one for name, one in linear.items() if not wanted or name.rpartition(".")[2] in wanted]
    return sum(recover.low_rank.rank * (one.in_features + one.out_features) for one in chosen)


def _keys(config: object) -> int:
    """Numbers of a token's keys in a layer."""
    heads = getattr(config, "num_attention_heads", 1)
    width = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 1) // heads
    return int((getattr(config, "num_key_value_heads", None) or heads) * width)


def recovery_lines(params: Params, model: PreTrainedModel, machine: Machine) -> Iterator[str]:
    """What a recovery needs, a line for each choice of `recover.weights`, and which one is set."""
    yield f"Memory of a recovery (`make recover`), of {size(machine.memory)} here:"
    for weights in ("scales", "low_rank", "all"):
        need = recovery_need(_with(params, weights=weights), model, machine.device.type)
        chosen = ", as it is set" if weights == params.recover.weights else ""
        yield f"  recover.weights: {weights:<9}{size(need):>10}{chosen}"
    if params.recover.teacher == "cached":
        yield f"  {'recover.teacher: cached':<26}{size(cache_bytes(params)):>10} of disk while it runs"
    for processes in (2, 8):
        need = recovery_need(_with(params, weights="all"), model, machine.device.type, processes)
        yield f"  {f'... on each of {processes} devices':<26}{size(need):>10}"


def check_recovery_memory(
    params: Params, model: PreTrainedModel, machine: Machine, processes: int = 1
) -> None:
    """Raise InputError, with the numbers, where a recovery cannot fit in this machine's memory.

    processes: over so many, each of which has a device like this machine's.
    """
    kind, recover = machine.device.type, params.recover
    need = recovery_need(params, model, kind, processes)
    if need <= machine.memory:
        return
    small: dict[str, object] = {"micro_batch_size": 1, "checkpointing": True}
    ways: list[dict[str, object]] = [{"micro_batch_size": 1}, small, {"weights": "low_rank", **small}]
    if not recover.on_policy.share:
        ways.append({"weights": "low_rank", **small, "teacher": "cached"})
    for way in ways:
        less = recovery_need(_with(params, **way), model, kind, 1 if "weights" in way else processes)
        if less <= machine.memory:
            changes = ", ".join(f"recover.{key}: {str(value).lower()}" for key, value in way.items())
            remedy = f"{changes} needs {size(less)}"
            break
    else:
        remedy = f"with all that saves memory it still needs {size(less)}; use a larger machine"
    raise InputError(
        f"{PARAMS_FILE}: recover.weights: {recover.weights}: needs about {size(need)} of memory at once and "
        f"{machine.kind} has {size(machine.memory)}; {remedy}"
    )


def _with(params: Params, **changes: object) -> Params:
    values = {name: getattr(params.recover, name) for name in type(params.recover).model_fields}
    return params.model_copy(update={"recover": Recover(**values | changes)})
