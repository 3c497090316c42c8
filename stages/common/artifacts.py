"""Typed reading and atomic writing of everything that passes between stages.

A reader checks what it reads (checksums, columns, dtypes, shapes, finite values) and raises InputError that
names the file; a writer works under a temporary name and renames at the end, so a final name is always whole.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from secateurs.text.documents import Document, Sequence
from stages.common.hashes import AGAIN as AGAIN
from stages.common.hashes import check_hash
from stages.common.stopwatch import spent

DOCUMENTS_SCHEMA = pa.schema([("document", pa.string()), ("text", pa.string()), ("chat", pa.bool_())])
SEQUENCES_SCHEMA = pa.schema(
    [
        ("domain", pa.string()),
        ("documents", pa.list_(pa.string())),
        ("input_ids", pa.list_(pa.int32())),
        ("answers", pa.list_(pa.bool_())),
    ]
)
ANSWERS_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("item", pa.string()),
        ("metric", pa.string()),
        ("score", pa.float64()),
        ("text", pa.string()),
    ]
)

_WRITTEN_BY = "written_by"


@dataclass(frozen=True)
class AnswerRow:
    """How an item of a task was answered: score by the task's metric, and the text, if one was written."""

    task: str
    item: str
    metric: str
    score: float
    text: str


def write_documents(
    path: Path, documents: Iterable[Document], written_by: Mapping[str, Any] | None = None
) -> None:
    """Write a domain's text as Parquet (document, text, chat).

    written_by: what is to be known of who wrote it, which goes into its schema as JSON.
    """
    rows = [asdict(item) for item in documents]
    schema = DOCUMENTS_SCHEMA
    if written_by:
        schema = schema.with_metadata({_WRITTEN_BY: json.dumps(written_by, sort_keys=True)})
    _write_table(path, rows, schema)


def read_documents(path: Path) -> list[Document]:
    """Read a domain's text."""
    return [Document(**row) for row in _read_table(path, DOCUMENTS_SCHEMA)]


def read_written_by(path: Path) -> dict[str, Any]:
    """What `written_by` said of a domain's text; empty where it said nothing."""
    found = (pq.read_schema(path).metadata or {}).get(_WRITTEN_BY.encode(), b"{}")
    return dict(json.loads(found))


def write_sequences(path: Path, sequences: Iterable[Sequence], metadata: Mapping[str, Any]) -> None:
    """Write a split of the corpus as Parquet; `metadata` (counts, settings) goes into its schema as JSON."""
    rows = [
        {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(item).items()}
        for item in sequences
    ]
    _write_table(path, rows, SEQUENCES_SCHEMA.with_metadata({"corpus": json.dumps(metadata, sort_keys=True)}))


def writers_of(paths: Mapping[str, Path]) -> dict[str, Any]:
    """What a split of the corpus is told of who wrote its domains, by the files of their text."""
    facts = {domain: read_written_by(path) for domain, path in paths.items()}
    found = {domain: told for domain, told in facts.items() if told}
    return {_WRITTEN_BY: found} if found else {}


def read_writers(path: Path) -> dict[str, dict[str, Any]]:
    """Of the domains in a split of the corpus, those of which it is recorded who wrote them, and what."""
    told = json.loads((pq.read_schema(path).metadata or {}).get(b"corpus", b"{}"))
    return dict(told.get(_WRITTEN_BY, {}))


def read_sequences(path: Path) -> list[Sequence]:
    """Read a split of the corpus; all rows have the same length."""
    sequences = [
        Sequence(row["domain"], tuple(row["documents"]), tuple(row["input_ids"]), tuple(row["answers"]))
        for row in _read_table(path, SEQUENCES_SCHEMA)
    ]
    if not sequences:
        raise InputError(f"{path}: no sequences; run the corpus stage again")
    if len({len(item.input_ids) for item in sequences}) != 1:
        raise InputError(f"{path}: sequences differ in length; run the corpus stage again")
    if any(len(item.answers) not in (0, len(item.input_ids)) for item in sequences):
        raise InputError(
            f"{path}: does not say of every token whether it is an answer; run the corpus stage again"
        )
    return sequences


def write_answers(path: Path, rows: Iterable[AnswerRow]) -> None:
    """Write the answers to all items as Parquet."""
    _write_table(path, [asdict(row) for row in rows], ANSWERS_SCHEMA)


def read_answers(path: Path) -> list[AnswerRow]:
    """Read the answers to all items."""
    return [AnswerRow(**row) for row in _read_table(path, ANSWERS_SCHEMA)]


def read_kept_tokens(path: Path) -> list[int]:
    """Read which tokens of the dense model's stay, ascending."""
    kept: list[int] = read_json(path).get("kept") or []
    if not kept or sorted({*kept}) != kept:
        raise InputError(f"{path}: kept: must be ids, each once and ascending; run `dvc repro vocabulary`")
    return kept


def read_card(checkpoint: Path) -> str:
    """Read the model card of a checkpoint of this pipeline."""
    check_hash(checkpoint / "README.md")
    try:
        return (checkpoint / "README.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{checkpoint / 'README.md'}: not found; run `dvc repro`") from None


def read_json(path: Path) -> Any:
    """Read JSON. Raises InputError where there is none, and where it is not what dvc.lock says."""
    check_hash(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run `dvc repro`") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None


@spent("write")
def _write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, write_page_checksum=True)


@spent("load")
def _read_table(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    check_hash(path)
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run `dvc repro`") from None
    # A page whose checksum does not match is an OSError.
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: damaged, or not a Parquet file: {reason}; {AGAIN}") from None
    if not table.schema.equals(schema, check_metadata=False):
        raise InputError(f"{path}: has columns {table.schema.to_string()}; expected {schema.to_string()}")
    for column in table.columns:
        if column.null_count:
            raise InputError(f"{path}: has empty values; run the stage that writes it again")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
