"""The tasks that `secateurs prune --eval` names, and their items; without torch."""

from collections.abc import Mapping

from secateurs.errors import InputError, SettingError
from secateurs.settings.sources import Benchmark, PathBenchmark, StockBenchmark
from secateurs.text.benchmark_items import parse_items, read_items
from secateurs.text.overlap import NGram, ngrams_of_items
from secateurs.text.task_items import ADAPTERS, RUNS_CODE


def tasks_of(given: str, run_generated_code: bool) -> dict[str, Benchmark]:
    """Where the items of each task of `TASK,TASK=ITEMS` come from: lm-eval, or a file of JSON lines.

    Raises InputError for what names no task, and for one whose answers are run where that is not allowed.
    """
    found: dict[str, Benchmark] = {}
    for part in given.split(","):
        task, equals, path = part.strip().partition("=")
        if not task or (equals and not path):
            raise InputError(f"--eval: {given}: write TASK or TASK=ITEMS.jsonl, several with commas between")
        if task in found:
            raise InputError(f"--eval: {task}: is named twice")
        if path and task not in ADAPTERS:
            raise InputError(
                f"--eval: {task}={path}: no task that takes items of your own; there are "
                f"{', '.join(sorted(ADAPTERS))}"
            )
        if task in RUNS_CODE and not run_generated_code:
            raise InputError(
                f"--eval: {task}: runs the programs that the model writes, on this machine, with limits on "
                "time and memory only; add --run-generated-code to have that done"
            )
        if task in RUNS_CODE and not path:
            raise InputError(
                f"--eval: {task}: as lm-eval ships it, it runs programs without limits; give it a file of "
                f"items: --eval {task}=items.jsonl"
            )
        found[task] = PathBenchmark(source="path", path=path) if path else StockBenchmark(source="stock")
    return found


def items_of(tasks: Mapping[str, Benchmark]) -> dict[str, bytes]:
    """JSON lines of each task's items. Raises InputError where they cannot be had, or are not the task's."""
    found = {}
    for task, benchmark in tasks.items():
        try:
            found[task] = read_items(task, benchmark)
        except SettingError as error:
            remedy = ""
            if isinstance(benchmark, StockBenchmark) and task in ADAPTERS:
                remedy = f"; where the hub is not to be reached, give its items: --eval {task}=items.jsonl"
            raise InputError(f"--eval: {error}{remedy}") from None
    return found


def ngrams_in(items: Mapping[str, bytes], length: int) -> set[NGram]:
    """The n-grams of all items' texts, which text that prunes or trains must not have."""
    parsed = (item for task, data in items.items() for _, item in parse_items(task, data))
    return ngrams_of_items(parsed, length)
