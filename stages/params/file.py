"""params.yaml: its groups together, the checks that span them, and how it is read.

The types of the groups are in secateurs/settings. No field has a default, so every value comes from the file
and nothing here can change a result. That is why no stage has this module as a dependency.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from secateurs.errors import InputError, SettingError
from secateurs.settings.base import Group, Name
from secateurs.settings.groups import Compute, Corpus, Evaluate, Export, Sample
from secateurs.settings.method import healing_problems, measure_problems, token_problems
from secateurs.settings.problems import lines_of
from secateurs.settings.pruning import Capture, Mask, Prune, Round, Surgery
from secateurs.settings.recovery import Recover
from secateurs.settings.sources import (
    GENERATED,
    Benchmark,
    Domain,
    ModelSource,
)
from stages.params.across import (
    dialogue_problems,
    engine_problems,
    evaluation_problems,
    left_out_problems,
    mixture_problems,
    sample_problems,
    text_problems,
    trial_problems,
)
from stages.params.rounds import chain, round_problems
from stages.params.yaml_file import parse_yaml, read_yaml

PARAMS_FILE = Path("params.yaml")


class LastSurgery(Surgery):
    """after: the last round."""

    after: Name


class Params(Group):
    """The whole of params.yaml, with the checks that span groups."""

    model: ModelSource
    domains: Annotated[dict[Name, Domain], Field(min_length=1)]
    sample: Sample
    benchmarks: dict[Name, Benchmark]
    corpus: Corpus
    mixture: dict[Name, Annotated[float, Field(ge=0)]]
    compute: Compute
    capture: Capture
    mask: Mask
    prune: Prune
    rounds: Annotated[dict[Name, Round], Field(min_length=1)]
    surgery: LastSurgery
    evaluate: Evaluate
    recover: Recover
    export: Export

    @model_validator(mode="after")
    def _check(self) -> "Params":
        problems = [
            *mixture_problems(self.domains, self.mixture),
            *round_problems(self.rounds, self.surgery.after),
            *measure_problems(self.mask, self.capture),
            *evaluation_problems(self.evaluate, len(self.benchmarks)),
            *healing_problems(self.surgery),
            *token_problems(self.surgery, self.prune, self.compute.device),
            *left_out_problems(self.mask, self.compute),
            *text_problems(self.surgery, self.capture, self.corpus, self.mask),
            *trial_problems(self.prune, self.surgery, self.capture, self.corpus),
            *sample_problems(self.sample, self.corpus, self.mixture),
            *dialogue_problems(self.sample, self.corpus, self.mixture),
            *engine_problems(self.sample, self.recover.own, self.compute),
            *self.prune.problems(),
            *self.recover.problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def round(self, name: str) -> Round:
        """A round by its name; InputError where there is none."""
        if name not in self.rounds:
            raise InputError(
                f"{PARAMS_FILE}: rounds.{name}: no such round; there are {', '.join(self.rounds)}"
            )
        return self.rounds[name]

    def counted(self) -> dict[str, float]:
        """`mixture` without text of the model's own that does not count: then none is made.

        Any other domain of weight 0 stays, because it is measured and scored.
        """
        return {name: weight for name, weight in self.mixture.items() if weight or name not in GENERATED}

    def chain(self) -> list[str]:
        """The rounds from the first to `surgery.after`; stops where a cycle would begin."""
        return chain(self.rounds, self.surgery.after)


def in_file(error: InputError) -> str:
    """What an error says, with this file's name before the key of a setting."""
    return f"{PARAMS_FILE}: {error}" if isinstance(error, SettingError) else str(error)


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole of params.yaml (YAML 1.2).

    Raises InputError that lists every problem as `file: key: value: what would be right`.
    """
    return check_params(read_yaml(path), path)


def parse_params(text: str, path: Path) -> Params:
    """Check the text of a params.yaml, which errors call `path`; raises InputError as read_params does."""
    return check_params(parse_yaml(str(path), text), path)


def check_params(data: Any, path: Path) -> Params:
    """Check the value of a params.yaml, which errors call `path`; raises InputError as read_params does."""
    problems = list(_left_out(Params, data)) if isinstance(data, Mapping) else []
    try:
        params = Params.model_validate(data)
    except ValidationError as error:
        problems = [*lines_of(error), *problems]
    if problems:
        raise InputError("\n".join(f"{path}: {problem}" for problem in problems))
    return params


def _left_out(group: type[Group], data: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Keys that a file does not give although they have a default: the file alone says what is computed."""
    for name, field in group.model_fields.items():
        group_of, value = field.annotation, data.get(name)
        if (
            name not in data
            and not field.is_required()
            and field.get_default(call_default_factory=True) is not None
        ):
            yield f"{at}{name}: missing"
        if isinstance(group_of, type) and issubclass(group_of, Group) and isinstance(value, Mapping):
            yield from _left_out(group_of, value, f"{at}{name}.")
