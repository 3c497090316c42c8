"""The types of params.yaml for what comes from elsewhere: the model, text and benchmarks."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from secateurs.settings.base import Empty, Group, HubId, Line, Package, Positive, Sha256

# Domains of text that the dense model writes itself: texts from nothing, and questions with answers.
SELF_DOMAIN, DIALOGUE_DOMAIN = "self", "dialogues"
GENERATED = (SELF_DOMAIN, DIALOGUE_DOMAIN)


def is_dialogues(domain: str) -> bool:
    """Whether a domain is the dialogues, or a part of them, which has a space in its name (text/parts.py)."""
    return domain.partition(" ")[0] == DIALOGUE_DOMAIN


def is_generated(domain: str) -> bool:
    """Whether the dense model wrote the domain's text itself, to calibrate by."""
    return domain == SELF_DOMAIN or is_dialogues(domain)


class ArchiveContent(Group):
    """What is taken of an archive of the package index.

    `member` is a path or glob inside the archive; `outer.tar.gz!inner` looks inside a nested archive.
    `sha256` is that of the member's bytes, or of all matching members (see archives/members.py).
    """

    source: Literal["package"]
    archive: Literal["wheel", "sdist"]
    member: Line
    sha256: Sha256


class PackageContent(ArchiveContent):
    """Files inside one pinned archive."""

    package: Package


class ModelLabel(Group):
    """What the model card says of the dense model."""

    name: Line
    licence: Line


class FileLabel(ModelLabel):
    """Of a model that is not read from the hub: `base_model` is its id there, if it has one."""

    base_model: Annotated[HubId | None, Empty]


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
    id: Line
    revision: Line


class PathModel(FileLabel):
    """A local checkpoint directory or GGUF file."""

    source: Literal["path"]
    path: Line


ModelSource = Annotated[PackageModel | HubModel | PathModel, Field(discriminator="source")]


class PlainReader(Group):
    """text: a file is a document. lines: a line is one. The others: see text/readers.py."""

    format: Literal["text", "lines", "snippets", "mediawiki", "python", "docstrings", "worked_answers"]


class FieldReader(Group):
    """jsonl: a field of each JSON line. csv, parquet: a column. Text, or (not in csv) chat messages."""

    format: Literal["jsonl", "csv", "parquet"]
    field: Line


Reader = Annotated[PlainReader | FieldReader, Field(discriminator="format")]


class Conversations(Group):
    """refused: what becomes of conversations that the model's chat template refuses; without it: stop."""

    refused: Literal["drop", "stop"] | None


class PackageDomain(PackageContent, Conversations):
    reader: Reader
    documents: Positive


class HubDomain(Conversations):
    """A data set on the hub, streamed; without `config` when it has only one."""

    source: Literal["hub"]
    id: Line
    config: Annotated[Line | None, Empty]
    revision: Line
    split: Line
    field: Line
    documents: Positive


class PathDomain(Conversations):
    """Local files: a path or glob."""

    source: Literal["path"]
    path: Line
    reader: Reader
    documents: Positive


Domain = Annotated[PackageDomain | HubDomain | PathDomain, Field(discriminator="source")]


class StockBenchmark(Group):
    """A task as lm-eval ships it, its items fetched from the hub by lm-eval."""

    source: Literal["stock"]


class PathBenchmark(Group):
    """A local JSON-lines file for a task in evaluation/local_tasks.py."""

    source: Literal["path"]
    path: Line


class PackageBenchmark(PackageContent):
    """A JSON-lines file in an archive for a task in evaluation/local_tasks.py."""


Benchmark = Annotated[PackageBenchmark | PathBenchmark | StockBenchmark, Field(discriminator="source")]
