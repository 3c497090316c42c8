"""Many prunings, each measured alike, several programs at a time: records in one file, and tables of them."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from lab.baselines.catalogue import BASELINES
from lab.baselines.programs.handover import CHECKPOINT
from lab.baselines.records import DENSE, Record, find, keep, read_records
from lab.baselines.shared import Shared, pruned
from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from secateurs.files.json_file import write_json
from secateurs.progress import progress
from stages.common.paths import MODEL

EVERYTHING = ""
"""In the place of the domain that was left out: none was."""

Run = tuple[str, float, str]
"""A baseline, the share of the decoder to remove, and the domain whose text it is not given."""


@dataclass(frozen=True)
class Measure:
    """What is measured of every checkpoint, and where it goes.

    file: the JSON of the records; their tables are next to it.
    score: of a checkpoint's directory and the domain left out, what its record holds.
    settings: of a baseline, what its record depends on.
    page: the records as Markdown.
    csv_rows: optional, the records as the rows of a CSV file, column names first.
    inspect: optional, of the directory that a program left and its own report, what else its record holds.
    keeps_failures: whether a run that fails has a record, which says why; without it there is none.
    """

    file: Path
    score: Callable[[Path, str], Record]
    settings: Callable[[str], Mapping[str, Any]]
    page: Callable[[list[Record]], str]
    csv_rows: Callable[[list[Record]], Sequence[Sequence[str]]] | None = None
    inspect: Callable[[Path, Record], Record] | None = None
    keeps_failures: bool = False


class Runs:
    """The records so far. The dense model's is made first, because all others are relative to it."""

    def __init__(self, shared: Shared, measure: Measure) -> None:
        self.shared, self.measure = shared, measure
        # Records of another model, text or evaluation cannot stand in one table with these.
        self.records = [
            one for one in read_records(measure.file) if one["settings"] == measure.settings(one["baseline"])
        ]
        self._scoring = Lock()
        if find(self.records, DENSE, 0.0) is None:
            self._keep((DENSE, 0.0, EVERYTHING), measure.score(MODEL, EVERYTHING))

    def add(self, wanted: Iterable[Run], again: bool, jobs: int) -> list[str]:
        """Prune and measure what has no record yet, or all that is wanted where `again`, `jobs` at a time.

        Returns a line for each run that failed.
        """
        # Even where nothing is run, because the tables that are there may be of older code.
        self._write_tables()
        waiting = [run for run in wanted if again or find(self.records, *run) is None]
        failures = []
        for run, record in progress(self._records_of(waiting, jobs), "baselines", "run", len(waiting)):
            failed = record.get("failed")
            if failed is not None:
                name, share, without = run
                text = f", {without} left out" if without else ""
                failures.append(f"{BASELINES[name].title} at {share:.0%}{text}: {failed}")
            if failed is None or self.measure.keeps_failures:
                self._keep(run, record)
        return failures

    def _records_of(self, runs: list[Run], jobs: int) -> Iterator[tuple[Run, Record]]:
        if jobs == 1:
            # In this thread, so that an interrupt ends the program that runs.
            yield from ((run, self._record(run)) for run in runs)
            return
        with ThreadPoolExecutor(jobs) as pool:
            submitted = {pool.submit(self._record, run): run for run in runs}
            for done in as_completed(submitted):
                yield submitted[done], done.result()

    def _record(self, run: Run) -> Record:
        """What is measured of a run, or why it failed."""
        name, share, without = run
        try:
            # One model at a time is measured, because all programs are on the same device.
            with pruned(self.shared, name, share, without) as (out, made), self._scoring:
                inspected = {} if self.measure.inspect is None else self.measure.inspect(out, made)
                return inspected | self.measure.score(out / CHECKPOINT, without)
        except InputError as error:
            return {"failed": str(error)}

    def _keep(self, run: Run, measured: Record) -> None:
        baseline, share, without = run
        record = {"baseline": baseline, "share": share, "without": without, **measured}
        self.records = keep(self.records, record | {"settings": self.measure.settings(baseline)})
        self.records.sort(
            key=lambda one: (one["share"], [DENSE, *BASELINES].index(one["baseline"]), one.get("without", ""))
        )
        write_json(self.measure.file, self.records)
        self._write_tables()

    def _write_tables(self) -> None:
        with atomic(self.measure.file.with_suffix(".md")) as temporary:
            temporary.write_text(self.measure.page(self.records), encoding="utf-8")
        if self.measure.csv_rows is not None:
            with (
                atomic(self.measure.file.with_suffix(".csv")) as temporary,
                temporary.open("w", encoding="utf-8", newline="") as file,
            ):
                csv.writer(file).writerows(self.measure.csv_rows(self.records))
