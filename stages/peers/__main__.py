"""`python -m stages.peers`: prune the default model by other methods too, and score all results alike."""

from pathlib import Path

import click

from stages.console import progress, stage, summary
from stages.errors import InputError
from stages.params import read_params
from stages.peers.catalogue import PEERS
from stages.peers.comparison import DATA, Comparison


@stage
@click.option(
    "--python", type=click.Path(path_type=Path), required=True, help="One with the peers installed."
)
@click.option("--share", "shares", type=float, multiple=True, default=(0.2, 0.4), show_default=True)
@click.option("--peer", "names", type=click.Choice(list(PEERS)), multiple=True, help="All without it.")
@click.option("--again", is_flag=True, help="Run what data/peers already has, too.")
def main(python: Path, shares: tuple[float, ...], names: tuple[str, ...], again: bool) -> None:
    """Write data/peers: every peer at every share of the decoder's parameters, scored like our own model.

    What data/peers has already, with the same settings, is not run again. A peer that fails has a row that
    says why; the others run all the same.
    """
    comparison = Comparison(read_params(), python)
    wanted = [(name, share) for share in shares for name in (names or PEERS)]
    failures = []
    for name, share in progress(wanted, "peers", "peer"):
        record = comparison.add(name, share, again)
        if "failed" in record:
            failures.append(f"{PEERS[name].title} at {share:.0%}: {record['failed']}")
    if failures:
        raise InputError("\n".join([f"{len(failures)} of {len(wanted)} peers failed:", *failures]))
    summary("peers", f"{len(wanted)} rows in {DATA / 'peers'}")


if __name__ == "__main__":
    main()
