"""Many prunings, several programs at a time, each measured alike: records in one file, and a page of them."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from stages.common.artifacts import atomic, write_json
from stages.common.console import progress
from stages.common.errors import InputError
from stages.common.paths import MODEL
from stages.experiments.baselines.catalogue import BASELINES
from stages.experiments.baselines.programs.handover import CHECKPOINT
from stages.experiments.baselines.records import DENSE, Record, find, keep, read_records
from stages.experiments.baselines.shared import Shared, pruned

EVERYTHING = ""
"""In the place of the domain that was left out, where none was."""

Wanted = tuple[str, float, str]
"""A baseline, the share of the decoder to remove, and the domain whose text it is not given."""


@dataclass(frozen=True)
class Measure:
    """What is taken of every checkpoint, and where it goes.

    file: the JSON; the page lies beside it as Markdown.
    score: of a checkpoint's directory and the domain left out, what its record holds.
    settings: of a baseline, what its record depends on.
    page: the records as Markdown.
    """

    file: Path
    score: Callable[[Path, str], Record]
    settings: Callable[[str], Mapping[str, Any]]
    page: Callable[[list[Record]], str]


class Runs:
    """The records so far; the dense model's is made first, for all are held against it."""

    def __init__(self, shared: Shared, measure: Measure) -> None:
        self.shared, self.measure = shared, measure
        # Rows of another model or text cannot stand in one table with these.
        self.records = [
            one for one in read_records(measure.file) if one["settings"] == measure.settings(one["baseline"])
        ]
        self._scoring = Lock()
        if find(self.records, DENSE, 0.0) is None:
            self._keep((DENSE, 0.0, EVERYTHING), measure.score(MODEL, EVERYTHING))

    def add(self, wanted: Iterable[Wanted], again: bool, jobs: int) -> list[str]:
        """Prune and measure what is not there yet, or `again`, `jobs` programs at a time; what went wrong."""
        self._write_page()  # even where nothing is run: the page may be of older code
        waiting = [one for one in wanted if again or find(self.records, *one) is None]
        failures = []
        with ThreadPoolExecutor(jobs) as pool:
            runs = {pool.submit(self._run, *one): one for one in waiting}
            for run in progress(as_completed(runs), "baselines", "run", len(runs)):
                name, share, without = runs[run]
                try:
                    self._keep(runs[run], run.result())
                except InputError as error:
                    text = f", {without} left out" if without else ""
                    failures.append(f"{BASELINES[name].title} at {share:.0%}{text}: {error}")
        return failures

    def _run(self, name: str, share: float, without: str) -> Record:
        # One model at a time is measured: the programs are on the same device.
        with pruned(self.shared, name, share, without) as (out, _), self._scoring:
            return self.measure.score(out / CHECKPOINT, without)

    def _keep(self, run: Wanted, measured: Record) -> None:
        baseline, share, without = run
        record = {"baseline": baseline, "share": share, "without": without, **measured}
        self.records = keep(self.records, record | {"settings": self.measure.settings(baseline)})
        self.records.sort(
            key=lambda one: (one["share"], [DENSE, *BASELINES].index(one["baseline"]), one["without"])
        )
        write_json(self.measure.file, self.records)
        self._write_page()

    def _write_page(self) -> None:
        with atomic(self.measure.file.with_suffix(".md")) as temporary:
            temporary.write_text(self.measure.page(self.records), encoding="utf-8")
