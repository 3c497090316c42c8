"""How params.yaml has the tasks asked, and where their items are."""

from collections.abc import Mapping
from pathlib import Path

from secateurs.evaluation.asking import Asking
from secateurs.settings.groups import Evaluate
from secateurs.settings.sources import Benchmark
from stages.common.paths import BENCHMARKS


def asking_of(evaluate: Evaluate, limit: int | None = None) -> Asking:
    """The settings of `evaluate`; limit: another one than its own."""
    return Asking(
        limit=evaluate.limit if limit is None else limit,
        seed=evaluate.seed,
        batch_size=evaluate.batch_size,
        chat_template=evaluate.chat_template,
        run_generated_code=evaluate.run_generated_code,
    )


def items_of(benchmarks: Mapping[str, Benchmark], directory: Path = BENCHMARKS) -> dict[str, Path | None]:
    """Task -> the file of its items that the benchmarks stage wrote, None for one as lm-eval ships it."""
    return {
        task: None if benchmark.source == "stock" else directory / f"{task}.jsonl"
        for task, benchmark in benchmarks.items()
    }
