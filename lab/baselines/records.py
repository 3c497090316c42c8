"""Records: what was measured of each run, kept as JSON, so that no run is made twice."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.baselines.catalogue import Baseline
from lab.study.settings import changed
from secateurs.settings.groups import TARGETS
from stages.common.artifacts import read_json
from stages.params.file import Params

Record = dict[str, Any]
"""baseline, share, settings; then either failed, or version, setting, seconds, peak_bytes, loads, scores."""

DENSE = "dense"


def read_records(path: Path) -> list[Record]:
    """The records so far; none where there is no file."""
    records: list[Record] = read_json(path) if path.exists() else []
    return records


def keep(records: list[Record], record: Record) -> list[Record]:
    """The records with one added, in the place of an older one of the same run."""
    return [one for one in records if key(one) != key(record)] + [record]


def find(records: list[Record], baseline: str, share: float, without: str = "") -> Record | None:
    """The record of a baseline, on all text or without a domain's, unless it failed."""
    for record in records:
        if key(record) == (baseline, share, without) and "failed" not in record:
            return record
    return None


def key(record: Record) -> tuple[str, float, str]:
    """The run that it is of: baseline, share, and the domain whose text was left out ("" if none was)."""
    return record["baseline"], record["share"], record.get("without", "")


def settings_of(inputs: Mapping[str, str], params: Params, baseline: Baseline | None) -> dict[str, Any]:
    """What a record depends on: digests of the inputs, evaluation settings, for our own rows pruning too."""
    groups = ["capture", "mask", "prune", "rounds", "surgery", "mixture"]
    data = params.model_dump(mode="json")
    own: dict[str, Any] = {}
    if baseline is not None and baseline.reads_params:
        own = {group: value for group, value in changed(data, baseline.settings).items() if group in groups}
        # The share takes the place of the target.
        own["prune"] = {name: value for name, value in own["prune"].items() if name not in TARGETS}
    # No score depends on how many sequences run at once.
    data["evaluate"].pop("batch_size")
    return {**inputs, "evaluate": data["evaluate"], "dtype": params.compute.dtype, **own}


def digest(*files: Path) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over files."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]
