"""What `secateurs prune` is asked for, as the settings that the library takes; without torch.

The program prunes by it at once, and `secateurs init` writes it into params.yaml for the pipeline.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from secateurs.errors import InputError
from secateurs.evaluation.asking import Asking
from secateurs.settings.groups import Corpus
from secateurs.settings.method import Settings
from secateurs.settings.pruning import AUTO
from secateurs.settings.recovery import Recover
from secateurs.settings.sources import (
    Benchmark,
    FieldReader,
    HubModel,
    ModelSource,
    PathDomain,
    PathModel,
    PlainReader,
)

# Where `--text` names no field: what files of a name's ending are read as; of others a file is a document.
ENDINGS = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".py": "python"}
# Documents of a domain at most: enough for every round and for healing, read in seconds.
DOCUMENTS = 2000
# What the hub calls a model.
_ID = re.compile(r"([A-Za-z0-9_][\w.-]*/)?[A-Za-z0-9_][\w.-]*", re.ASCII)
HELDOUT_SEQUENCES = 8
# All items of a task, at first so many rows of 256 tokens at a time.
ASKING = Asking(limit=0, seed=0, batch_size=8)


@dataclass(frozen=True)
class Source:
    """A domain's text: its name, the path as given, and the field of its rows, if they have fields."""

    domain: str
    path: str
    field: str | None


@dataclass(frozen=True)
class Order:
    """A model, its text, and the settings of the method.

    tokens: of a calibration sequence. precision: of a GGUF file that is written too; None for none. recovery:
    the training that follows; None for none. tasks: where the items of each come from; asking: how they are
    asked.
    """

    model: str
    sources: tuple[Source, ...]
    settings: Settings
    tokens: int
    precision: str | None = None
    recovery: Recover | None = None
    tasks: Mapping[str, Benchmark] = field(default_factory=dict)
    asking: Asking = ASKING


def model_source(model: str) -> ModelSource:
    """A model by its argument: a path that is there, or else an id on the hub.

    Raises InputError for a path that is not there, where it can be no id.
    """
    path = Path(model)
    if model and path.exists() and model.isprintable():
        whole = path.resolve()
        name = (whole.stem if path.is_file() else whole.name) or "model"
        return PathModel(source="path", path=model, name=name, licence="unknown", base_model=None)
    if _ID.fullmatch(model) is None or path.suffix == ".gguf":
        raise InputError(
            f"model: {model!r:.100}: no such file or folder, and no id on the hub, like OWNER/NAME"
        )
    return HubModel(source="hub", id=model, revision="main", name=model.rpartition("/")[2], licence="unknown")


def text_domain(source: Source) -> PathDomain:
    """A domain by its `--text`. Raises InputError for a field that is missing, or that nothing can have."""
    folder = Path(source.path).is_dir()
    path = f"{source.path.rstrip('/')}/**/*" if folder else source.path
    kind = ENDINGS.get(Path(source.path).suffix, "text")
    if kind in ("jsonl", "csv", "parquet"):
        if source.field is None:
            raise InputError(f"--text: {source.path}: which field holds the text? write {source.path}:FIELD")
        reader: FieldReader | PlainReader = FieldReader(format=kind, field=source.field)  # type: ignore[arg-type]
    elif source.field is not None:
        raise InputError(f"--text: {source.path}:{source.field}: only .jsonl, .csv and .parquet have fields")
    else:
        reader = PlainReader(format=kind)  # type: ignore[arg-type]
    return PathDomain(source="path", path=path, reader=reader, documents=DOCUMENTS, refused=None)


def corpus_of(order: Order) -> Corpus:
    """How the order's text is split and cut: as many sequences of each domain as its settings read."""
    return Corpus(
        sequence_length=order.tokens,
        calibration_sequences=_sequences(order.settings),
        heldout_sequences=HELDOUT_SEQUENCES,
        heldout_share=0.2,
        ngram=13,
        seed=0,
    )


def _sequences(settings: Settings) -> int:
    surgery, auto = settings.surgery, settings.prune.auto
    healed = surgery.sequences + max(surgery.choice_sequences, settings.mask.left_out)
    wanted = max(settings.capture.sequences, healed)
    if settings.prune.sites == AUTO:
        tried = min(auto.sequences, surgery.sequences) + surgery.choice_sequences
        wanted = max(wanted, max(settings.capture.sequences, tried) + auto.left_out)
    return wanted
