"""What `secateurs prune` is asked for; without torch, because its command line reads it at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where `--text` names no field: what files of a name's ending are read as; of others a file is a document.
ENDINGS = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".py": "python"}


@dataclass(frozen=True)
class Source:
    """A domain's text: its name, the path as given, and the field of its rows, if they have fields."""

    domain: str
    path: str
    field: str | None


@dataclass(frozen=True)
class Order:
    """What `secateurs prune` was asked for. changes: settings by their keys in params.yaml."""

    model: str
    sources: tuple[Source, ...]
    changes: dict[str, Any]
    tokens: int
    out: Path
    precision: str | None
