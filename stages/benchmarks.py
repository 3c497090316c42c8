"""Stage: the items of the zero-shot tasks."""

from stages.common import artifacts
from stages.common.console import progress, stage, summary
from stages.common.locks import hold
from stages.common.params import read_params
from stages.common.paths import BENCHMARKS
from stages.text.benchmark_items import read_items


@stage
def main() -> None:
    """Write the items of every task under `benchmarks` in params.yaml to data/benchmarks/TASK.jsonl."""
    benchmarks = read_params().benchmarks
    hold(BENCHMARKS)
    with artifacts.atomic(BENCHMARKS) as directory:
        directory.mkdir()
        for task, benchmark in progress(benchmarks.items(), label="benchmarks", unit="tasks"):
            (directory / f"{task}.jsonl").write_bytes(read_items(task, benchmark))
    summary("benchmarks", ", ".join(benchmarks) or "none")


if __name__ == "__main__":
    main()
