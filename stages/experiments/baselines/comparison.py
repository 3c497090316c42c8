"""All baselines on one model, one text and one evaluation, and the files in data/baselines."""

import csv
from pathlib import Path

import torch

from stages.checkpoints.devices import place
from stages.checkpoints.loading import load_model
from stages.common.artifacts import atomic, write_json
from stages.common.errors import InputError
from stages.common.paths import BASELINES as TABLES
from stages.common.paths import MODEL
from stages.experiments.baselines.evaluation import evaluate
from stages.experiments.baselines.loading import try_loading
from stages.experiments.baselines.programs.handover import CHECKPOINT, LOGITS
from stages.experiments.baselines.records import DENSE, Record, find, keep, read_records
from stages.experiments.baselines.shared import CHECK, Shared, pruned
from stages.experiments.baselines.table import csv_rows, markdown


class Comparison:
    """The records so far, and the dense model that latencies are held against."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        compute = shared.params.compute
        self.model = place(load_model(MODEL, compute.dtype), compute.device)
        self.file = TABLES / "baselines.json"
        # Rows of another model, text or evaluation cannot stand in one table with these.
        self.records = [
            one for one in read_records(self.file) if one["settings"] == shared.settings(one["baseline"])
        ]
        if find(self.records, DENSE, 0.0) is None:
            scores = self._scores(MODEL)
            self._keep({"baseline": DENSE, "share": 0.0, "settings": shared.settings(DENSE), **scores})

    def add(self, name: str, share: float, again: bool) -> Record:
        """The record of a baseline; what is not there yet is run, and the tables are written anew."""
        known = None if again else find(self.records, name, share)
        if known is not None:
            return known
        record: Record = {"baseline": name, "share": share, "settings": self.shared.settings(name)}
        try:
            record |= self._run(name, share)
        except InputError as error:
            record |= {"failed": str(error)}
        self._keep(record)
        return record

    def _run(self, name: str, share: float) -> Record:
        with pruned(self.shared, name, share) as (out, made):
            dtype = self.shared.params.compute.dtype
            loads = try_loading(out / CHECKPOINT, out / CHECK, out / LOGITS, dtype)
            return {**made, "loads": loads, **self._scores(out / CHECKPOINT)}

    def _scores(self, directory: Path) -> Record:
        shared = self.shared
        scores = evaluate(directory, self.model, shared.heldout, shared.tasks, shared.params)
        return {**scores, "threads": torch.get_num_threads()}

    def _keep(self, record: Record) -> None:
        self.records = keep(self.records, record)
        write_json(self.file, self.records)
        with atomic(self.file.with_suffix(".md")) as temporary:
            temporary.write_text(markdown(self.records), encoding="utf-8")
        with (
            atomic(self.file.with_suffix(".csv")) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file).writerows(csv_rows(self.records))
