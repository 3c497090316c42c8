"""How long a grid takes: stages that experiments share run once, as DVC's cache has it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from lab.study.grid import Experiment
from stages.params.file import Params
from stages.params.rounds import DENSE
from stages.planning.estimate import START_SECONDS, estimate_work

# Of each experiment, besides its stages: queuing, a directory of its own, hashing, checking out, the report.
EXPERIMENT_SECONDS = 20.0

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Run:
    """A stage of an experiment. key: all that its result depends on; operations: of floating point."""

    stage: str
    key: str
    operations: float


def seconds(experiments: list[Experiment], model: PreTrainedModel, speed: float) -> float:
    """What the experiments take together with nothing cached, at `speed` operations a second."""
    runs = {one.key: one for experiment in experiments for one in runs_of(experiment.checked, model)}
    stages = sum(START_SECONDS + one.operations / speed for one in runs.values())
    return stages + EXPERIMENT_SECONDS * len(experiments)


def runs_of(params: Params, model: PreTrainedModel) -> Iterator[Run]:
    """The stages of a run whose work grows with model and text, each with the params it depends on.

    The keys follow the `params` and `deps` of dvc.yaml.
    """
    operations = {work.name: work.operations for work in estimate_work(params, model)}
    text: Key = (params.corpus, *params.domains.items(), *params.benchmarks.items(), params.sample)
    yield _run("sample", operations["sample"], params.sample)
    yield _run("evaluate dense", operations["evaluate dense"], *text, params.evaluate)
    before: Key = (DENSE,)
    for name in params.chain():
        seen: Key = (before, *text, params.capture, *params.prune.sites)
        yield _run("capture", operations["capture, each round"], *seen)
        before = (
            seen,
            name,
            params.mask,
            params.prune,
            *params.mixture.items(),
            params.rounds[name].progress,
        )
        yield _run("mask", operations["mask, each round"], *before)
    healed: Key = (before, params.surgery)
    yield _run("surgery", operations["surgery"], *healed)
    yield _run("evaluate pruned", operations["evaluate pruned"], *healed, params.evaluate)


def _run(stage: str, operations: float, *depends: Any) -> Run:
    return Run(stage, json.dumps([stage, *depends], default=repr), operations)
