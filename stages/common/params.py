"""params.yaml: its groups together, the checks that span them, and how it is read.

The types of the groups are in common/schema. No field of any has a default: the file is the only place where
a value comes from, so none of this can change a result, and none is a dependency of a stage.
"""

import math
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.errors import InputError
from stages.common.problems import problems_of
from stages.common.schema.base import Group, Name, Seed
from stages.common.schema.groups import (
    GRADIENT_METRICS,
    Capture,
    Compute,
    Corpus,
    Evaluate,
    Export,
    Mask,
    OwnText,
    Prune,
    Recover,
    Round,
    Sample,
    Surgery,
)
from stages.common.schema.sources import (
    Benchmark,
    Domain,
    FieldReader,
    FileLabel,
    HubDomain,
    HubModel,
    ModelSource,
    PackageBenchmark,
    PackageContent,
    PackageDomain,
    PackageModel,
    PathBenchmark,
    PathDomain,
    PathModel,
    PlainReader,
    Reader,
    StockBenchmark,
)

# All other code imports from here, wherever a type is defined.
__all__ = [
    "DENSE",
    "GRADIENT_METRICS",
    "OWN_KINDS",
    "PARAMS_FILE",
    "SELF_DOMAIN",
    "Benchmark",
    "Corpus",
    "Domain",
    "FieldReader",
    "FileLabel",
    "Group",
    "HubDomain",
    "HubModel",
    "ModelSource",
    "Name",
    "OwnText",
    "PackageBenchmark",
    "PackageContent",
    "PackageDomain",
    "PackageModel",
    "Params",
    "PathBenchmark",
    "PathDomain",
    "PathModel",
    "PlainReader",
    "Reader",
    "Sample",
    "Seed",
    "StockBenchmark",
    "read_params",
]

PARAMS_FILE = Path("params.yaml")
SELF_DOMAIN = "self"
# What a recovery adds, by its key under `recover`. No domain of params.yaml has a space in its name.
OWN_KINDS = {"plain": "own text", "dialogues": "own dialogues"}
DENSE = "dense"


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
    surgery: Surgery
    evaluate: Evaluate
    recover: Recover
    export: Export

    @model_validator(mode="after")
    def _check(self) -> "Params":
        problems = [
            *self._mixture_problems(),
            *self._round_problems(),
            *self._budget_problems(),
            *self._recovery_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _mixture_problems(self) -> list[str]:
        known = {*self.domains, SELF_DOMAIN}
        problems = [
            f"mixture.{name}: no such domain; domains are {', '.join(sorted(known))}"
            for name in self.mixture
            if name not in known
        ]
        problems += [
            f"mixture: domain {name} has no weight; add `{name}: 1.0`, or 0 to leave it out"
            for name in sorted(known - set(self.mixture))
        ]
        if SELF_DOMAIN in self.domains:
            problems.append(f"domains.{SELF_DOMAIN}: the name is taken by text sampled from the model")
        if self.mixture and not any(self.mixture.values()):
            problems.append("mixture: all weights are 0; at least one domain must count")
        if not math.isfinite(sum(self.mixture.values())):
            problems.append(
                "mixture: the sum of the weights is not finite; only their ratios count, lower them"
            )
        return problems

    def _round_problems(self) -> list[str]:
        if DENSE in self.rounds:
            return [f"rounds.{DENSE}: the name stands for the unpruned model; use another"]
        problems = []
        for name, item in self.rounds.items():
            if item.after == name:
                problems.append(f"rounds.{name}.after: {name}: a round cannot follow itself")
            elif item.after != DENSE and item.after not in self.rounds:
                choices = ", ".join([DENSE, *self.rounds])
                problems.append(f"rounds.{name}.after: {item.after}: no such round; choose among {choices}")
        if self.surgery.after not in self.rounds:
            problems.append(
                f"surgery.after: {self.surgery.after}: no such round; rounds are {', '.join(self.rounds)}"
            )
        if problems:
            return problems
        chain = self.chain()
        if self.rounds[chain[0]].after != DENSE:
            return [f"rounds: {' -> '.join([*chain, chain[0]])}: a cycle; one round must follow {DENSE}"]
        unused = [name for name in self.rounds if name not in chain]
        if unused:
            problems.append(
                f"rounds: {', '.join(unused)} not on the way from {DENSE} to surgery.after: "
                f"{self.surgery.after}; every round must follow another and lead to it"
            )
            return problems
        before = 0.0
        for name in chain:
            progress = self.rounds[name].progress
            if progress <= before:
                problems.append(
                    f"rounds.{name}.progress: {progress}: must be more than the {before} of the round before"
                )
            before = progress
        if before != 1.0:
            problems.append(f"rounds.{chain[-1]}.progress: {before}: the last round must reach 1.0")
        return problems

    def _budget_problems(self) -> list[str]:
        problems = []
        if self.mask.metric in GRADIENT_METRICS and not self.capture.gradients:
            problems.append(
                f"mask.metric: {self.mask.metric}: needs gradients; set capture.gradients: true, "
                "or choose wanda, fluctuation, magnitude or random"
            )
        if self.surgery.reconstruct.epochs and self.surgery.heal not in ("auto", "residual"):
            problems.append(
                f"surgery.heal: {self.surgery.heal}: reconstruction starts from the residual refit; set "
                "surgery.heal: residual (with it, auto is the same), or surgery.reconstruct.epochs: 0"
            )
        there = self.corpus.calibration_sequences
        for group, used in (("capture", self.capture.sequences), ("surgery", self.surgery.sequences)):
            if used > there:
                problems.append(f"{group}.sequences: {used}: more than corpus.calibration_sequences: {there}")
        left = there - self.surgery.sequences
        if self.chooses_healing() and 0 <= left < self.surgery.choice_sequences:
            problems.append(
                f"surgery.choice_sequences: {self.surgery.choice_sequences}: surgery.sequences: "
                f"{self.surgery.sequences} leaves {left} of corpus.calibration_sequences: {there}, and heal: "
                "auto chooses by text that no refit has read; raise the last, or lower one of the others"
            )
        if self.evaluate.limit == 1 and self.benchmarks:
            problems.append("evaluate.limit: 1: a standard error needs at least 2 items; 0 takes all")
        if len(set(self.prune.sites)) != len(self.prune.sites):
            problems.append(f"prune.sites: {self.prune.sites}: a site is named twice")
        if {"attention", "query_heads"} <= set(self.prune.sites):
            problems.append(
                f"prune.sites: {self.prune.sites}: attention takes query heads with their KV group, "
                "query_heads takes them out of groups that stay; choose one of the two"
            )
        return problems

    def _recovery_problems(self) -> list[str]:
        shares, own = self.recover.mixture, self.recover.own
        problems = [
            f"recover.mixture.{kind}: {getattr(shares, kind)}: recover.own.{kind}: 0 writes no such text"
            for kind in OWN_KINDS
            if getattr(shares, kind) and not getattr(own, kind)
        ]
        if not any(shares.model_dump().values()):
            problems.append("recover.mixture: all weights are 0; at least one kind of text must count")
        return problems

    def chooses_healing(self) -> bool:
        """Whether surgery tries several ways of healing; reconstruction starts from the residual refit."""
        return self.surgery.heal == "auto" and not self.surgery.reconstruct.epochs

    def round(self, name: str) -> Round:
        """A round by its name; InputError where there is none."""
        if name not in self.rounds:
            raise InputError(
                f"{PARAMS_FILE}: rounds.{name}: no such round; there are {', '.join(self.rounds)}"
            )
        return self.rounds[name]

    def counted(self) -> dict[str, float]:
        """`mixture` without the model's own text where that does not count: then none is made.

        Any other domain of weight 0 stays, because it is measured and scored.
        """
        return {name: weight for name, weight in self.mixture.items() if weight or name != SELF_DOMAIN}

    def chain(self) -> list[str]:
        """The rounds from the first to `surgery.after`; stops where a cycle would begin."""
        names: list[str] = []
        name = self.surgery.after
        while name != DENSE and name not in names:
            names.append(name)
            name = self.rounds[name].after
        return names[::-1]


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole of params.yaml (YAML 1.2).

    Raises InputError that lists every problem as `file: key: value: what would be right`.
    """
    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run from the project's root") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply to be read; see params.yaml of the project") from None
    except YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        raise InputError("\n".join(problems_of(path, error))) from None
