"""`python -m stages.peers`: prune the default model by other methods too, and score all results alike."""

from pathlib import Path

import click

from stages.console import progress, stage, summary
from stages.errors import InputError
from stages.params import read_params
from stages.peers.catalogue import PEERS
from stages.peers.shared import DATA, Shared, read_shared
from stages.peers.transfer import FILE, Transfer


@stage
@click.option(
    "--python", type=click.Path(path_type=Path), required=True, help="One with the peers installed."
)
@click.option(
    "--share",
    "shares",
    type=float,
    multiple=True,
    help="Of the decoder.  [default: 0.2 and 0.4; --left-out: 0.2]",
)
@click.option("--peer", "names", type=click.Choice(list(PEERS)), multiple=True, help="All without it.")
@click.option("--again", is_flag=True, help="Run what data/peers already has, too.")
@click.option("--left-out", is_flag=True, help="Score each domain after a pruning without its text.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Programs at a time, with --left-out.")
def main(
    python: Path, shares: tuple[float, ...], names: tuple[str, ...], again: bool, left_out: bool, jobs: int
) -> None:
    """Write data/peers: every peer at every share of the decoder's parameters, scored like our own model.

    What data/peers has already, with the same settings, is not run again. A peer that fails has a row that
    says why; the others run all the same.
    """
    shared, peers = read_shared(read_params(), python), names or tuple(PEERS)
    if left_out:
        failures = Transfer(shared).add(peers, shares or (0.2,), again, jobs)
        done = FILE.with_suffix(".md")
    else:
        failures = _compare(shared, peers, shares or (0.2, 0.4), again)
        done = DATA / "peers"
    if failures:
        raise InputError("\n".join([f"{len(failures)} failed:", *failures]))
    summary("peers", f"{len(peers)} methods in {done}")


def _compare(shared: Shared, names: tuple[str, ...], shares: tuple[float, ...], again: bool) -> list[str]:
    # Scores need lm-eval, which --left-out does without.
    from stages.peers.comparison import Comparison

    comparison = Comparison(shared)
    wanted = [(name, share) for share in shares for name in names]
    failures = []
    for name, share in progress(wanted, "peers", "peer"):
        record = comparison.add(name, share, again)
        if "failed" in record:
            failures.append(f"{PEERS[name].title} at {share:.0%}: {record['failed']}")
    return failures


if __name__ == "__main__":
    main()
