"""What a recovery needs as params.yaml has it, in the plan and before it begins."""

from collections.abc import Iterator

from transformers import PreTrainedModel

from secateurs.evaluation.units import size
from secateurs.families.discover import family_of
from secateurs.recover.memory import Recovery, check_recovery_fits, recovery_need
from secateurs.recover.teacher_cache import bytes_of_sequence
from stages.params.file import Params
from stages.planning.machine import Machine
from stages.recovering.text import rows_drawn


def recovery_of(params: Params, device: str, **changes: object) -> Recovery:
    """The recovery of params.yaml, with some settings of `recover` changed. device: its type, cpu or cuda."""
    half = device != "cpu" and params.compute.dtype == "bfloat16"
    question = params.sample.dialogues.question.tokens
    recover = params.recover.changed(**changes)
    return Recovery(recover, params.prune, half, params.corpus.sequence_length, question)


def cache_bytes(params: Params) -> float:
    """Bytes of the file of `recover.teacher: cached`, which is deleted in the end; 0 with another teacher.

    At most: a sequence that is drawn twice stands there once.
    """
    recover, length = params.recover, params.corpus.sequence_length
    if recover.teacher != "cached":
        return 0.0
    return float(sum(rows_drawn(params).values()) * bytes_of_sequence(length, recover.cached.likeliest))


def recovery_lines(params: Params, model: PreTrainedModel, machine: Machine) -> Iterator[str]:
    """What a recovery needs, a line for each choice of `recover.weights`, and which one is set."""
    device = machine.device.type
    yield f"Memory of a recovery (`make recover`), of {size(machine.memory)} here:"
    mixture = any(layer.mixture for layer in family_of(model.config).layers)
    routers = ["routers"] if mixture or params.recover.weights == "routers" else []
    for weights in ("scales", "low_rank", *routers, "all"):
        need = recovery_need(recovery_of(params, device, weights=weights), model)
        chosen = ", as it is set" if weights == params.recover.weights else ""
        yield f"  recover.weights: {weights:<9}{size(need):>10}{chosen}"
    if params.recover.teacher == "cached":
        yield f"  {'recover.teacher: cached':<26}{size(cache_bytes(params)):>10} of disk while it runs"
    for processes in (2, 8):
        need = recovery_need(recovery_of(params, device, weights="all"), model, processes)
        yield f"  {f'... on each of {processes} devices':<26}{size(need):>10}"


def check_recovery_memory(
    params: Params, model: PreTrainedModel, machine: Machine, processes: int = 1
) -> None:
    """Raise InputError where a recovery cannot fit in this machine's memory (check_recovery_fits)."""
    recovery = recovery_of(params, machine.device.type)
    check_recovery_fits(recovery, model, machine.capacity, processes)
