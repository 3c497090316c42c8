"""Rows made and scored one after the other in one process, with the dense model loaded once."""

import gc
import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from lab.baselines.four_bits import bytes_in_four_bits
from lab.baselines.table_rows import DENSE, FOUR_BITS, OPTIPFAIR, OURS, Given, Row
from secateurs.errors import InputError
from secateurs.evaluation.asking import Asking
from secateurs.evaluation.perplexity import score_domains
from secateurs.evaluation.scores import averaged, headline_metric
from secateurs.evaluation.zero_shot import score_tasks
from secateurs.families.decoder import decoder_parameters
from secateurs.files.json_file import write_json
from secateurs.text.documents import Sequence
from stages.common.artifacts import AnswerRow, read_answers, read_json, write_answers
from stages.reporting.metrics import difference

Record = dict[str, Any]
"""key, title, share, settings; then either failed, or parameters, perplexity, accuracy, difference, costs."""


@dataclass
class Scorer:
    """Makes rows and keeps their records in `out`: records.json, and in answers/ those of every row.

    settings: what a record depends on besides its row; one of others is made anew.
    """

    given: Given
    heldout: list[Sequence]
    tasks: Mapping[str, Path | None]
    asking: Asking
    settings: Mapping[str, Any]
    out: Path
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        path = self.out / "records.json"
        kept: list[Record] = read_json(path) if path.exists() else []
        self.records = [one for one in kept if one["settings"] == self.settings]

    def known(self, row: Row, share: float) -> bool:
        """Whether there is a record of the row that did not fail."""
        return any(_is_scored(one, row.key, share) for one in self.records)

    def take(self, other: Path) -> None:
        """Take over the rows of a table that another run made of the same model, text and settings.

        Rows that are here stay. Differences are told anew, because they may be from a row that was taken.
        """
        path = other / "records.json"
        if not path.exists():
            raise InputError(f"--take: {other}: there is no records.json, so no table was made there")
        there: list[Record] = [one for one in read_json(path) if "failed" not in one]
        unlike = sorted(
            {
                name
                for one in there
                for name in {*one["settings"], *self.settings}
                if one["settings"].get(name) != self.settings.get(name)
            }
        )
        if unlike:
            raise InputError(f"--take: {other}: made with other settings than here: {', '.join(unlike)}")
        here = {(one["key"], one["share"]) for one in self.records if "failed" not in one}
        for one in there:
            key, share = one["key"], one["share"]
            if (key, share) not in here:
                answers = read_answers(_answers(other, key, share))
                write_answers(_answers(self.out, key, share), answers)
                self.records = [old for old in self.records if not _is(old, key, share)] + [one]
        for one in self.records:
            if "failed" not in one:
                one |= self._differences(one["key"], one["share"], one["accuracy"])
        self.records.sort(key=lambda one: one["share"])
        write_json(self.out / "records.json", self.records)

    def add(self, row: Row, share: float) -> Record:
        """Make and score a row. What goes wrong with it is in its record, and the next row can be made."""
        record: Record = {"key": row.key, "title": row.title, "share": share, "settings": dict(self.settings)}
        try:
            record |= self._scored(row, share)
        except (InputError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            # Other programs fail in their own ways; the table says so in their row. Where it was goes to the
            # terminal, because the fault may be one of this program.
            if not isinstance(error, InputError):
                traceback.print_exc()
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            record |= {"failed": reason[:200]}
        self.records = [one for one in self.records if not _is(one, row.key, share)] + [record]
        write_json(self.out / "records.json", self.records)
        _let_go()
        return record

    def _scored(self, row: Row, share: float) -> Record:
        _let_go()
        start = time.perf_counter()
        model = row.make(self.given, share).eval().requires_grad_(False)
        _wait()
        seconds, memory = time.perf_counter() - start, _peak()
        start = time.perf_counter()
        domains = score_domains(model, self.given.tokenizer, self.heldout, self._batch_size)
        scores = score_tasks(model, self.given.tokenizer, self.tasks, self.asking)
        _wait()
        dense = decoder_parameters(self.given.dense)
        records = {task: score.record() for task, score in scores.items()}
        own = [
            AnswerRow(task, answer.item, metric, answer.scores[metric], "")
            for task, score in scores.items()
            for metric in [headline_metric(records[task])]
            for answer in score.answers
        ]
        write_answers(_answers(self.out, row.key, share), own)
        return {
            "removed": 1 - decoder_parameters(model) / dense if row.prunes else 0.0,
            "parameters": model.num_parameters(),
            "bytes": _bytes(model, row),
            "perplexity": {name: one.perplexity for name, one in domains.items()},
            "accuracy": records,
            **self._differences(row.key, share, records),
            "seconds": round(seconds, 1),
            # What another process took is not known here.
            "memory_bytes": None if row.key == OPTIPFAIR else memory,
            "scoring_seconds": round(time.perf_counter() - start, 1),
        }

    @property
    def _batch_size(self) -> int:
        return self.asking.batch_size

    def _differences(self, key: str, share: float, accuracy: Mapping[str, Any]) -> dict[str, Any]:
        """Row - dense, and row - our own row of the same share, by task on the same items.

        With standard errors; nothing where the row is the other one itself, or where that one is not there.
        """
        found: dict[str, Any] = {}
        for name, than, other_share in (("difference", DENSE, 0.0), ("difference_from_ours", OURS, share)):
            apart: dict[str, list[float]] = {}
            if key != than and any(_is_scored(one, than, other_share) for one in self.records):
                answers = read_answers(_answers(self.out, than, other_share))
                other = {(one.task, one.item): one.score for one in answers}
                for one in read_answers(_answers(self.out, key, share)):
                    apart.setdefault(one.task, []).append(one.score - other[one.task, one.item])
            found[name] = dict(difference(apart, averaged(accuracy))) if apart else {}
        return found


def _answers(out: Path, key: str, share: float) -> Path:
    return out / "answers" / f"{re.sub(r'[^a-z0-9.]+', '-', key.lower())}-{share:g}.parquet"


def _is(record: Record, key: str, share: float) -> bool:
    return bool(record["key"] == key and record["share"] == share)


def _is_scored(record: Record, key: str, share: float) -> bool:
    return _is(record, key, share) and "failed" not in record


def _bytes(model: PreTrainedModel, row: Row) -> int:
    if row.key == FOUR_BITS:
        return bytes_in_four_bits(model)
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def _on_cuda(work: Callable[[], Any]) -> Any:
    return work() if torch.cuda.is_available() else None


def _wait() -> None:
    _on_cuda(torch.cuda.synchronize)


def _peak() -> int | None:
    peak: int | None = _on_cuda(torch.cuda.max_memory_allocated)
    return peak


def _let_go() -> None:
    gc.collect()
    _on_cuda(torch.cuda.empty_cache)
    _on_cuda(torch.cuda.reset_peak_memory_stats)
