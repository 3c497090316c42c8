"""The comparison: quality, cost and speed of every baseline, on one model, one text and one evaluation."""

from pathlib import Path

import torch

from lab.baselines.evaluation import evaluate
from lab.baselines.loading import try_loading
from lab.baselines.programs.handover import CHECKPOINT, LOGITS
from lab.baselines.records import Record
from lab.baselines.runs import Measure
from lab.baselines.shared import CHECK, Shared
from lab.baselines.table import csv_rows, markdown
from secateurs.checkpoints.loading import load_model
from secateurs.devices.placement import place
from stages.common.paths import BASELINES as TABLES
from stages.common.paths import MODEL


def comparison(shared: Shared) -> Measure:
    """All scores of the evaluate stage, and what each program says of itself and takes to run."""
    compute = shared.params.compute
    # Latencies are ratios to the dense model's, which is measured in turns with the pruned one's.
    dense = place(load_model(MODEL, compute.dtype), compute.device)

    def score(directory: Path, without: str) -> Record:
        scores = evaluate(directory, dense, shared.heldout, shared.tasks, shared.params)
        return {**scores, "threads": torch.get_num_threads()}

    def inspect(out: Path, made: Record) -> Record:
        return {**made, "loads": try_loading(out / CHECKPOINT, out / CHECK, out / LOGITS, compute.dtype)}

    return Measure(
        TABLES / "baselines.json",
        score,
        shared.settings,
        markdown,
        csv_rows=csv_rows,
        inspect=inspect,
        keeps_failures=True,
    )
