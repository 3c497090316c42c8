"""Rows made and scored one after the other in one process, with the dense model loaded once."""

import gc
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from stages.common.artifacts import AnswerRow, Sequence, read_answers, read_json, write_answers, write_json
from stages.common.errors import InputError
from stages.evaluation.asking import Asking
from stages.evaluation.metrics import difference
from stages.evaluation.perplexity import score_domains
from stages.evaluation.scores import averaged, headline_metric
from stages.evaluation.zero_shot import Score, score_tasks
from stages.experiments.baselines.at_once.rows import DENSE, FOUR_BITS, OURS, Given, Row
from stages.experiments.baselines.four_bits import bytes_in_four_bits
from stages.pruning.decoder import decoder_parameters

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
        return any(_is(one, row, share) and "failed" not in one for one in self.records)

    def add(self, row: Row, share: float) -> Record:
        """Make and score a row. What goes wrong with it is in its record, and the next row can be made."""
        record: Record = {"key": row.key, "title": row.title, "share": share, "settings": dict(self.settings)}
        try:
            record |= self._scored(row, share)
        except (InputError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            # Other programs fail in their own ways; the table says so in their row.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            record |= {"failed": reason[:200]}
        self.records = [one for one in self.records if not _is(one, row, share)] + [record]
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
        return {
            "removed": 1 - decoder_parameters(model) / dense if row.prunes else 0.0,
            "parameters": model.num_parameters(),
            "bytes": _bytes(model, row),
            "perplexity": {name: one.perplexity for name, one in domains.items()},
            "accuracy": {task: score.record() for task, score in scores.items()},
            **self._differences(row, share, scores),
            "seconds": round(seconds, 1),
            "memory_bytes": memory,
            "scoring_seconds": round(time.perf_counter() - start, 1),
        }

    @property
    def _batch_size(self) -> int:
        return self.asking.batch_size

    def _differences(self, row: Row, share: float, scores: Mapping[str, Score]) -> dict[str, Any]:
        """Row - dense, and row - our own row of the same share, by task on the same items.

        With standard errors; nothing where the row is the other one itself, or where that one is not there.
        """
        records = {task: score.record() for task, score in scores.items()}
        own = [
            AnswerRow(task, answer.item, metric, answer.scores[metric], "")
            for task, score in scores.items()
            for metric in [headline_metric(records[task])]
            for answer in score.answers
        ]
        write_answers(self._answers(row.key, share), own)
        found: dict[str, Any] = {}
        for name, key, other_share in (("difference", DENSE, 0.0), ("difference_from_ours", OURS, share)):
            path, apart = self._answers(key, other_share), dict[str, list[float]]()
            if row.key != key and any(_is_of(one, key, other_share) for one in self.records):
                other = {(one.task, one.item): one.score for one in read_answers(path)}
                for one in own:
                    apart.setdefault(one.task, []).append(one.score - other[one.task, one.item])
            found[name] = dict(difference(apart, averaged(records))) if apart else {}
        return found

    def _answers(self, key: str, share: float) -> Path:
        return self.out / "answers" / f"{re.sub(r'[^a-z0-9.]+', '-', key.lower())}-{share:g}.parquet"


def _is(record: Record, row: Row, share: float) -> bool:
    return bool(record["key"] == row.key and record["share"] == share)


def _is_of(record: Record, key: str, share: float) -> bool:
    """Whether a record is that of a row which was scored."""
    return bool(record["key"] == key and record["share"] == share and "failed" not in record)


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
