"""Check params.yaml, show the schedule, or rewrite the rounds (comments kept)."""

from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from stages.artifacts import atomic
from stages.console import stage
from stages.params import DENSE, PARAMS_FILE, Params, read_params

CURVES = {
    "linear": lambda share: share,
    # Much at first, when little is lost by it, and ever less: Zhu and Gupta 2017.
    "cubic": lambda share: 1 - (1 - share) ** 3,
}


@stage
@click.option("--rounds", type=click.IntRange(min=1), help="Rewrite the rounds of params.yaml: how many.")
@click.option("--curve", type=click.Choice(list(CURVES)), default="linear", show_default=True)
def main(rounds: int | None, curve: str) -> None:
    """Check params.yaml and show the schedule; with --rounds, rewrite `rounds` and `surgery.after` first."""
    if rounds is not None:
        rewrite_rounds(PARAMS_FILE, rounds, curve)
    click.echo("\n".join(schedule(read_params())))


def rewrite_rounds(path: Path, count: int, curve: str) -> None:
    """Replace `rounds` by r1 to r<count> along a curve from 0 to 1; everything else stays as written."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    data: Any = yaml.load(path.read_text(encoding="utf-8"))
    old = data["rounds"]
    names = [f"r{number}" for number in range(1, count + 1)]
    for number, (name, after) in enumerate(zip(names, [DENSE, *names], strict=False), 1):
        item = CommentedMap(after=after, progress=round(CURVES[curve](number / count), 4))
        item.fa.set_flow_style()
        old[name] = item
    for name in [name for name in old if name not in names]:
        del old[name]
    data["surgery"]["after"] = names[-1]
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yaml.dump(data, file)


def schedule(params: Params) -> list[str]:
    """The rounds as lines of text: what is removed by when, and how many tokens each pass reads."""
    domains = len(params.mixture)
    tokens = domains * params.capture.sequences * params.corpus.sequence_length
    passes = "forward and backward" if params.capture.gradients else "forward only"
    lines = [
        f"{domains} domains x {params.capture.sequences} sequences x {params.corpus.sequence_length} tokens "
        f"= {tokens:,} tokens a round, {passes}; metric {params.mask.metric}"
    ]
    for name in params.chain():
        item = params.rounds[name]
        share = item.progress * params.prune.sparsity
        lines.append(f"  {item.after} -> {name}: {share:.1%} of the decoder's parameters removed")
    lines.append(f"  {params.surgery.after} -> surgery: {params.surgery.heal} healing -> data/pruned")
    return lines


if __name__ == "__main__":
    main()
