"""How the tasks are asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.common.params import Benchmark
from stages.common.paths import BENCHMARKS
from stages.common.schema.groups import Evaluate


@dataclass(frozen=True)
class Asking:
    """How tasks are asked.

    limit: items per task, drawn with `seed`, the same ones for every model; 0 takes all. batch_size: rows of
    256 tokens at a time to begin with, halved whenever memory runs out. chat_template: where a task has the
    model write, its prompts go through the tokenizer's; choices are compared after plain prompts all the
    same, as published figures do it. run_generated_code: whether programs that the model writes are run (see
    programs.py).
    """

    limit: int
    seed: int
    batch_size: int
    chat_template: bool = False
    run_generated_code: bool = False


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
