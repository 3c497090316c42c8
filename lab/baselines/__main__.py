"""Tool: prune the default model by other methods too, and score all results alike."""

from pathlib import Path

import click

from lab.baselines.catalogue import BASELINES
from lab.baselines.left_out import left_out, prunings
from lab.baselines.runs import EVERYTHING, Measure, Runs
from lab.baselines.shared import Shared, read_shared
from secateurs.errors import InputError
from stages.common.console import stage, summary
from stages.common.paths import BASELINES as TABLES
from stages.params.file import read_params

COMPARISON, LEFT_OUT, ALL_ITEMS = "comparison", "left-out", "all-items"
KINDS = {
    COMPARISON: "perplexity, accuracy, cost and speed of every method, pruned one after the other",
    LEFT_OUT: "perplexity of each domain after a pruning without its text, at 20% if no share is given",
    ALL_ITEMS: "zero-shot accuracy on every item of the tasks, where the comparison takes evaluate.limit",
}


@stage
@click.option(
    "--python", type=click.Path(path_type=Path), required=True, help="One with the baselines installed."
)
@click.option(
    "--table",
    type=click.Choice(list(KINDS)),
    default=COMPARISON,
    show_default=True,
    help="; ".join(f"{name}: {text}" for name, text in KINDS.items()),
)
@click.option("--share", "shares", type=float, multiple=True, help="Of the decoder.  [default: 0.2 and 0.4]")
@click.option(
    "--baseline", "names", type=click.Choice(list(BASELINES)), multiple=True, help="All without it."
)
@click.option("--again", is_flag=True, help="Run what data/baselines already has, too.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help=f"Programs at a time, where none is timed: for {LEFT_OUT} and {ALL_ITEMS}.",
)
def main(
    python: Path, table: str, shares: tuple[float, ...], names: tuple[str, ...], again: bool, jobs: int
) -> None:
    """Write data/baselines: every baseline at every share of the decoder's parameters, scored alike.

    What data/baselines has already, with the same settings, is not run again. A baseline that fails is named
    at the end, and in the comparison has a row that says why; the others run all the same.
    """
    if table == COMPARISON and jobs > 1:
        raise InputError(f"--jobs: {jobs}: the {COMPARISON} times its programs, so they run one at a time")
    shared, baselines = read_shared(read_params(), python), names or tuple(BASELINES)
    if table == LEFT_OUT:
        wanted = prunings(shared, baselines, shares or (0.2,))
    else:
        wanted = [(name, share, EVERYTHING) for share in shares or (0.2, 0.4) for name in baselines]
    failures = Runs(shared, _measure(table, shared)).add(wanted, again, jobs)
    if failures:
        raise InputError("\n".join([f"{len(failures)} failed:", *failures]))
    summary("baselines", f"{len(baselines)} methods in {TABLES}")


def _measure(table: str, shared: Shared) -> Measure:
    if table == LEFT_OUT:
        return left_out(shared)
    # These need lm-eval, whose import takes seconds that the left-out table does without.
    if table == ALL_ITEMS:
        from lab.baselines.all_items import all_items

        return all_items(shared)
    from lab.baselines.comparison import comparison

    return comparison(shared)


if __name__ == "__main__":
    main()
