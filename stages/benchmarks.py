"""Stage: the items of the zero-shot tasks."""

from secateurs.files.atomic import atomic
from secateurs.progress import progress
from secateurs.text.benchmark_items import read_items
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import BENCHMARKS
from stages.params.file import read_params


@stage
def main() -> None:
    """Write the items of every task under `benchmarks` in params.yaml to data/benchmarks/TASK.jsonl."""
    benchmarks = read_params().benchmarks
    hold(BENCHMARKS)
    with atomic(BENCHMARKS) as directory:
        directory.mkdir()
        for task, benchmark in progress(benchmarks.items(), label="benchmarks", unit="tasks"):
            (directory / f"{task}.jsonl").write_bytes(read_items(task, benchmark))
    summary("benchmarks", ", ".join(benchmarks) or "none")


if __name__ == "__main__":
    main()
