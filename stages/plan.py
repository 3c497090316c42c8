"""Tool: check params.yaml, show the schedule and what it will take, or rewrite the rounds (comments kept)."""

import click

from secateurs.settings.pruning import AUTO
from secateurs.settings.sources import PackageModel, PathModel
from stages.common.console import stage
from stages.params.file import PARAMS_FILE, Params, read_params
from stages.planning.curve import CURVES, rewrite_rounds
from stages.planning.early_checks import check_context, check_early
from stages.planning.in_place import is_in_place
from stages.planning.schedule import schedule
from stages.planning.task_checks import check_tasks

UNKNOWN = (
    "\nTime, memory and disk are unknown until the archive that holds the model is here: `dvc repro model` "
    "fetches it."
)


@stage
@click.option("--rounds", type=click.IntRange(min=1), help="Rewrite the rounds of params.yaml: how many.")
@click.option("--curve", type=click.Choice(list(CURVES)), default="linear", show_default=True)
@click.option("--check", is_flag=True, help="Only check params.yaml and what it names.")
def main(rounds: int | None, curve: str, check: bool) -> None:
    """Check params.yaml, show the schedule and estimate time and disk; with --rounds, rewrite them first."""
    if rounds is not None:
        rewrite_rounds(PARAMS_FILE, rounds, curve)
    params = read_params()
    check_early(params)
    if not check:
        # What the settings alone tell is there at once; the libraries that the rest needs take seconds.
        click.echo("\n".join(schedule(params)))
    _check_model(params, estimate=not check)


def _check_model(params: Params, estimate: bool) -> None:
    """Check what the model and the tasks allow; with `estimate`, print what a run takes as well."""
    if any(one.source == "stock" for one in params.benchmarks.values()):
        _saying("reading the tasks of lm-eval")
    check_tasks(params)
    there = is_in_place()
    if isinstance(params.model, PackageModel) and not there:
        # Only the whole archive tells what is in it.
        if estimate:
            click.echo(UNKNOWN)
        return
    where = "its config" if there or isinstance(params.model, PathModel) else "its config on the hub"
    _saying(f"working out the shapes of {params.model.name} from {where}")
    # Large libraries take seconds to import.
    from secateurs.estimate.auto_sites import standing_in, tried
    from stages.planning.architecture import configured_architecture, placed_architecture
    from stages.planning.costs import costs
    from stages.planning.found import found_lines
    from stages.planning.kind_options import option_lines
    from stages.planning.target_lines import check_budget, target_lines

    if there or isinstance(params.model, PackageModel):
        found = placed_architecture()
    else:
        found = configured_architecture(params.model)
    check_context(found.model.config, params)
    options = None
    if params.prune.sites == AUTO:
        options = tried(params.prune, params.mask.metric, found.model)
        lines = ["", *found_lines(found.model.config, tuple(options.decoder))]
        lines += ["", *option_lines(params, found.model, options)]
        params = params.changed(prune=standing_in(params.prune, options))
    else:
        check_budget(params, found.model)
        lines = ["", *found_lines(found.model.config, tuple(params.prune.sites))]
        lines += ["", *target_lines(params, found.model)]
    if estimate:
        click.echo("\n".join([*lines, "", *costs(params, found, options)]))


def _saying(what: str) -> None:
    """A line for people who wait, apart from what the plan says."""
    click.echo(f"plan: {what} ...", err=True)


if __name__ == "__main__":
    main()
