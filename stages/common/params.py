"""The types and checks of params.yaml.

No field has a default: the file is the only place where a value comes from, so this module cannot
change a result and is not a dependency of any stage.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.errors import InputError

PARAMS_FILE = Path("params.yaml")
SELF_DOMAIN = "self"
DENSE = "dense"

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
HubId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")]
Package = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$")]
Positive = Annotated[int, Field(ge=1)]
# The smallest range among the generators that are seeded: that of numpy, which lm-eval uses.
Seed = Annotated[int, Field(ge=0, lt=2**32)]

Metric = Literal["fisher", "taylor", "wanda", "fluctuation", "magnitude", "random"]
GRADIENT_METRICS: frozenset[str] = frozenset({"fisher", "taylor"})


class Group(BaseModel):
    """A mapping of params.yaml: strict types, finite numbers, no unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ArchiveContent(Group):
    """What is taken of an archive of the package index.

    `member` is a path or glob inside the archive; `outer.tar.gz!inner` looks inside a nested archive.
    `sha256` is that of the member's bytes, or of all matching members (see text/packages.py).
    """

    source: Literal["package"]
    archive: Literal["wheel", "sdist"]
    member: str
    sha256: Sha256


class PackageContent(ArchiveContent):
    """Files inside one pinned archive."""

    package: Package


class ModelLabel(Group):
    """What the model card says of the dense model."""

    name: str
    licence: str


class FileLabel(ModelLabel):
    """Of a model that is not read from the hub: `base_model` is its id there, null where it has none."""

    base_model: HubId | None


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class PackageModel(ArchiveContent, FileLabel):
    """A GGUF file inside an archive, or cut into parts that are a member of an archive each.

    `package` is one package or a list of them, in the order in which their members make the file; `member`
    matches one file in each, and `sha256` is that of the whole.
    """

    package: Annotated[list[Package], Field(min_length=1), BeforeValidator(_listed)]


class HubModel(ModelLabel):
    """A model id on the hub, at a pinned revision (branch names move: prefer a commit)."""

    source: Literal["hub"]
    id: str
    revision: str


class PathModel(FileLabel):
    """A local checkpoint directory or GGUF file."""

    source: Literal["path"]
    path: str


ModelSource = Annotated[PackageModel | HubModel | PathModel, Field(discriminator="source")]


class PlainReader(Group):
    """text: a file is a document. lines: a line is one. The others: see text/readers.py."""

    format: Literal["text", "lines", "snippets", "mediawiki", "python", "docstrings", "worked_answers"]


class FieldReader(Group):
    """jsonl: a field of each JSON line. csv, parquet: a column. Text, or (not in csv) chat messages."""

    format: Literal["jsonl", "csv", "parquet"]
    field: str


Reader = Annotated[PlainReader | FieldReader, Field(discriminator="format")]


class PackageDomain(PackageContent):
    reader: Reader
    documents: Positive


class HubDomain(Group):
    """A data set on the hub, streamed; `config: null` when it has only one."""

    source: Literal["hub"]
    id: str
    config: str | None
    revision: str
    split: str
    field: str
    documents: Positive


class PathDomain(Group):
    """Local files: a path or glob."""

    source: Literal["path"]
    path: str
    reader: Reader
    documents: Positive


Domain = Annotated[PackageDomain | HubDomain | PathDomain, Field(discriminator="source")]


class StockBenchmark(Group):
    """A task as lm-eval ships it, its items fetched from the hub by lm-eval."""

    source: Literal["stock"]


class PathBenchmark(Group):
    """A local JSON-lines file for a task in evaluation/tasks.py."""

    source: Literal["path"]
    path: str


class PackageBenchmark(PackageContent):
    """A JSON-lines file in an archive for a task in evaluation/tasks.py."""


Benchmark = Annotated[PackageBenchmark | PathBenchmark | StockBenchmark, Field(discriminator="source")]


class Sample(Group):
    documents: Positive
    tokens: Positive
    temperature: Annotated[float, Field(gt=0)]
    batch_size: Positive
    seed: Seed


class Corpus(Group):
    sequence_length: Annotated[int, Field(ge=8)]
    calibration_sequences: Positive
    heldout_sequences: Positive
    heldout_share: Annotated[float, Field(gt=0, lt=1)]
    ngram: Annotated[int, Field(ge=2)]
    seed: Seed


class Compute(Group):
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|sharded|cuda(:\d+)?)$")]
    dtype: Literal["float32", "bfloat16", "float16"]
    launch: Annotated[str, Field(pattern=r"^python( -m torch\.distributed\.run( [\w.:=-]+)*)?$")]


class Capture(Group):
    sequences: Positive
    gradients: bool
    checkpointing: bool
    batch_size: Positive


class Mask(Group):
    metric: Metric
    seed: Seed


class Prune(Group):
    sparsity: Annotated[float, Field(gt=0, lt=1)]
    widths: Literal["uniform", "per_layer"]
    width_multiple: Positive
    floor: Annotated[float, Field(gt=0, lt=1)]
    sites: Annotated[list[Literal["mlp", "attention", "query_heads"]], Field(min_length=1)]


class Round(Group):
    after: Name
    progress: Annotated[float, Field(gt=0, le=1)]


class Reconstruct(Group):
    epochs: Annotated[int, Field(ge=0)]
    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Positive


class Surgery(Group):
    after: Name
    heal: Literal["none", "least_squares", "residual", "auto"]
    alpha: Annotated[float, Field(ge=0, le=1)]
    ridge: Annotated[float, Field(gt=0)]
    sequences: Positive
    choice_sequences: Positive
    batch_size: Positive
    reconstruct: Reconstruct


class Evaluate(Group):
    limit: Annotated[int, Field(ge=0)]
    batch_size: Positive
    seed: Seed
    prompt_tokens: Positive
    decode_tokens: Positive
    repeats: Positive


class Recover(Group):
    steps: Annotated[int, Field(ge=0)]
    batch_size: Positive
    micro_batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    clip: Annotated[float, Field(gt=0)]
    seed: Seed


class Export(Group):
    precision: Literal["f32", "f16", "bf16", "q8_0"]


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
        problems = [*self._mixture_problems(), *self._round_problems(), *self._budget_problems()]
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

    def chooses_healing(self) -> bool:
        """Whether surgery tries several ways of healing; reconstruction starts from the residual refit."""
        return self.surgery.heal == "auto" and not self.surgery.reconstruct.epochs

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


def problems_of(path: Path, error: ValidationError) -> list[str]:
    """What pydantic found in a file, a line each: `file: key: value: what would be right`."""
    lines: list[str] = []
    for item in error.errors():
        if item["type"] == "value_error" and not item["loc"]:
            lines += [f"{path}: {problem}" for problem in str(item["ctx"]["error"]).splitlines()]
            continue
        key = ".".join(_location(item["loc"]))
        value: Any = item["input"]
        shown = "" if item["type"] in {"missing", "extra_forbidden"} else f"{value!r}: "
        message = {"extra_forbidden": "unknown key", "missing": "missing"}.get(item["type"], item["msg"])
        lines.append(f"{path}: {key}: {shown}{message}")
    return lines


def _location(loc: tuple[int | str, ...]) -> list[str]:
    # pydantic inserts the tag of a union (`domains.news.package.sha256`); the file has no such key.
    places = {"model": {1}, "domains": {2, 4}, "benchmarks": {2}}.get(str(loc[0]), set())
    last = len(loc) - 1
    return [str(part) for index, part in enumerate(loc) if index not in places or index == last]
