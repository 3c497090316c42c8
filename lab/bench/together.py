"""What several devices side by side gain: the same work by one process alone, then by a torchrun group."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lab.bench.clock import timed
from lab.bench.pruning_speed import captured, surgery
from lab.bench.setup import Record, Setup
from lab.bench.shapes import random_text
from secateurs.devices import parallel
from secateurs.devices.placement import place, process_group, resolve_device
from secateurs.kinds.channels import output_projection
from secateurs.kinds.sites import sites_of
from secateurs.measure.capture import DomainCapture
from secateurs.progress import is_first


@dataclass(frozen=True)
class _Run:
    """Seconds and results of a Fisher round and of surgery at 20%."""

    fisher: float
    surgery: float
    captures: Mapping[str, DomainCapture]
    healed: Tensor


def side_by_side(setup: Setup) -> Record:
    """A Fisher round and surgery by the first process alone, while the others wait, then by all together.

    Needs torchrun; each process has the device of its own number. Processes but the first return nothing.
    """
    setup = replace(setup, device=resolve_device(setup.device.type))
    alone = _run(setup) if is_first() else None
    with process_group(setup.device):
        # The first exchange sets NCCL up.
        processes = int(parallel.summed(torch.ones(1)))
        together = _run(setup)
    if alone is None:
        return {}
    return {
        "processes": processes,
        "Fisher round alone, s": alone.fisher,
        "Fisher round together, s": together.fisher,
        "Fisher round, speed-up": alone.fisher / together.fisher,
        "surgery alone, s": alone.surgery,
        "surgery together, s": together.surgery,
        "surgery, speed-up": alone.surgery / together.surgery,
        **_differences(together, alone),
    }


def twice(setup: Setup) -> Record:
    """How far two runs of the first process alone are apart: kernels add up in an order that changes."""
    setup = replace(setup, device=resolve_device(setup.device.type))
    return _differences(_run(setup), _run(setup)) if is_first() else {}


def _run(setup: Setup) -> _Run:
    model = setup.model()
    ids = random_text(model, setup.sequences, setup.tokens)
    sites = sites_of(model, ("mlp",))

    few = ids[: setup.batch * parallel.processes()]
    # A process's first factorisation and first pinned memory take more than a second.
    surgery(setup, replace(setup, layers=1).model(), few)
    captured(setup, model, sites, few, True)
    captures: dict[str, DomainCapture] = {}
    first = timed(setup.device, lambda: captures.update(captured(setup, model, sites, ids, True)))
    place(model, "cpu")
    parallel.summed(torch.ones(1))  # so that no process waits for another within what is timed
    second = surgery(setup, model, ids)
    last = output_projection(model, sites[-1]).weight
    return _Run(first.seconds, second.seconds, captures, copy.deepcopy(last.detach()))


def _differences(found: _Run, expected: _Run) -> Record:
    return {
        "Fisher statistics, relative difference": _apart(
            _fisher_of(found.captures), _fisher_of(expected.captures)
        ),
        "healed weights, relative difference": _apart(found.healed, expected.healed),
    }


def _fisher_of(captures: Mapping[str, DomainCapture]) -> Tensor:
    (one,) = captures.values()
    found = [statistics["fisher"] for statistics in one.statistics.values()]
    return torch.cat(found)


def _apart(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())
