"""Tool: check params.yaml, show the schedule and what it will take, or rewrite the rounds (comments kept)."""

import click

from secateurs.choose.target import decoder_share
from secateurs.devices.placement import resolve_device
from stages.common.console import duration, stage
from stages.params.file import PARAMS_FILE, Params, read_params
from stages.planning.architecture import Architecture, configured_architecture
from stages.planning.checks import check_context, check_early
from stages.planning.estimate import EFFICIENCY, Work, estimate_work, measure_speed, portions
from stages.planning.found import found_lines
from stages.planning.machine import this_machine, warnings
from stages.planning.memory import peak_memory
from stages.planning.rounds import CURVES, rewrite_rounds
from stages.planning.target import check_budget, target_lines
from stages.planning.tasks import check_tasks


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
    check_tasks(params)
    found = configured_architecture(params.model)
    if found is not None:
        check_context(found.model.config, params)
        check_budget(params, found.model)
    about = [] if found is None else [*found_lines(found.model.config, tuple(params.prune.sites)), ""]
    if check:
        return
    click.echo("\n".join([*about, *schedule(params, found), "", *cost(params, found)]))


def schedule(params: Params, found: Architecture | None) -> list[str]:
    """The rounds as lines of text: what is removed by when, and how many tokens each pass reads.

    Without a model, a target in parameters or bytes is no share of anything yet.
    """
    share = params.prune.sparsity if found is None else decoder_share(found.model, params.prune)
    parts = portions(params)
    tokens = sum(parts.values()) * params.capture.sequences * params.corpus.sequence_length
    passes = "forward and backward" if params.capture.gradients else "forward only"
    dialogues = "(dialogues count as all others) " if max(parts.values()) > 1 else ""
    lines = [
        f"{sum(parts.values())} domains x {params.capture.sequences} sequences x "
        f"{params.corpus.sequence_length} tokens {dialogues}"
        f"= {tokens:,} tokens a round, {passes}; metric {params.mask.metric}"
    ]
    for name in params.chain():
        item = params.rounds[name]
        of = "what is to go" if share is None else "the decoder's parameters"
        removed = item.progress * (1.0 if share is None else share)
        lines.append(f"  {item.after} -> {name}: {removed:.1%} of {of} removed")
    lines.append(f"  {params.surgery.after} -> surgery: {params.surgery.heal} healing -> data/pruned")
    return lines if found is None else [*lines, *target_lines(params, found.model)]


def cost(params: Params, found: Architecture | None) -> list[str]:
    """What a run of everything takes here, as lines of text; unknown for a package that is not here yet."""
    if found is None:
        return [
            "Time, memory and disk are unknown until the archive that holds the model is here: "
            "`dvc repro model` fetches it."
        ]
    device, dtype = resolve_device(params.compute.device), params.compute.dtype
    work = estimate_work(params, found.model)
    memory = peak_memory(params, found.model)
    speed = measure_speed(device, dtype)
    seconds = [one.seconds(EFFICIENCY * speed) for one in work]
    disk = sum(one.runs * one.disk for one in work)
    most = max(memory, key=lambda name: memory[name])
    machine = this_machine(device)
    fetched = "bytes that the hub does not tell" if found.download is None else _gigabytes(found.download)
    return [
        f"Estimate for {params.model.name}, {found.model.num_parameters() / 1e6:,.1f} M parameters "
        f"({found.where}), with nothing cached:",
        f"  {'':<22}{'runs':>5}{'tokens a run':>14}{'time':>16}{'disk':>12}",
        *map(_line, work, seconds),
        f"  {'together':<41}{duration(sum(seconds)):>16}{_gigabytes(disk):>12}",
        f"Memory: {_gigabytes(memory[most])} at once, in {most}; this machine has "
        f"{_gigabytes(machine.memory)} ({machine.kind}).",
        f"Weights to download: {fetched}. Text and tasks come on top.",
        f"Time rests on {speed / 1e9:,.0f} GFLOP/s, measured just now in {dtype} matrix products on "
        f"{device.type},",
        f"of which stages are taken to reach {EFFICIENCY:.0%}; it can be off by a factor of two. DVC's cache "
        "shares these blocks",
        "where the file system links them, and else doubles them.",
        *(["evaluate.limit: 0: all items of the tasks come on top."] if params.evaluate.limit == 0 else []),
        *(f"Warning: {one}" for one in warnings(params, machine, memory, disk + (found.download or 0))),
    ]


def _line(work: Work, seconds: float) -> str:
    tokens = f"{work.tokens:,}" if work.tokens else ""
    disk = _gigabytes(work.runs * work.disk) if work.disk else ""
    return f"  {work.name:<22}{work.runs:>5}{tokens:>14}{duration(seconds):>16}{disk:>12}".rstrip()


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"


if __name__ == "__main__":
    main()
