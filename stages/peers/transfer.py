"""How well each peer's calibration carries over: pruned without a domain's text, scored on that domain."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import geometric_mean
from threading import Lock

from stages.artifacts import atomic, write_json
from stages.checkpoints import load_model, load_tokenizer
from stages.console import progress
from stages.devices import place
from stages.errors import InputError
from stages.evaluation.markdown import markdown_table
from stages.evaluation.perplexity import score_domains
from stages.peers.catalogue import PEERS
from stages.peers.programs.handover import CHECKPOINT
from stages.peers.records import DENSE, Record, find, keep, key, read_records
from stages.peers.shared import DATA, MODEL, Shared, pruned

FILE = DATA / "peers/left_out.json"
NOTE = (
    "Held-out perplexity / dense, geometric means over the domains. In the mix: one pruning, on the text of "
    "all domains. Left out: a pruning for each domain, on the text of all the others, scored on that domain "
    "alone; so are the columns of the domains. Methods that read no text are left away: they cannot change."
)
COLUMNS = ("method", "in the mix", "left out", "change")
EVERYTHING = ""
"""In the place of the domain that was left out, where none was."""


class Transfer:
    """One record for each peer, share and domain left out: its settings, and perplexity by domain scored."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.domains = list(dict.fromkeys(row.domain for row in shared.heldout))
        # Rows of another model or text cannot stand in one table with these.
        self.records = [one for one in read_records(FILE) if one["settings"] == shared.settings(one["peer"])]
        self._scoring = Lock()
        if find(self.records, DENSE, 0.0) is None:
            self._keep(DENSE, 0.0, EVERYTHING, self._perplexity(MODEL, EVERYTHING))

    def add(self, names: Iterable[str], shares: Iterable[float], again: bool, jobs: int) -> list[str]:
        """Prune by every peer that reads text, once for all domains and once without each.

        `jobs` programs run at a time; what is there already is not run again. Returns what went wrong.
        """
        wanted = [
            (name, share, without)
            for share in shares
            for name in names
            for without in (EVERYTHING, *self.domains)
            if PEERS[name].reads_text and (again or find(self.records, name, share, without) is None)
        ]
        failures = []
        with ThreadPoolExecutor(jobs) as pool:
            runs = {pool.submit(self._run, *one): one for one in wanted}
            for run in progress(as_completed(runs), "peers", "run", len(runs)):
                name, share, without = runs[run]
                try:
                    self._keep(name, share, without, run.result())
                except InputError as error:
                    text = without or "nothing"
                    failures.append(f"{PEERS[name].title} at {share:.0%}, {text} left out: {error}")
        return failures

    def _run(self, name: str, share: float, without: str) -> dict[str, float]:
        with pruned(self.shared, name, share, without) as (out, _):
            return self._perplexity(out / CHECKPOINT, without)

    def _perplexity(self, directory: Path, domain: str) -> dict[str, float]:
        params = self.shared.params
        rows = [row for row in self.shared.heldout if domain in (EVERYTHING, row.domain)]
        # One model at a time: the programs are on the same device.
        with self._scoring:
            model = place(load_model(directory, params.compute.dtype), params.compute.device)
            scores = score_domains(model, load_tokenizer(directory), rows, params.evaluate.batch_size)
        return {name: one.perplexity for name, one in scores.items()}

    def _keep(self, name: str, share: float, without: str, perplexity: dict[str, float]) -> None:
        record = {"peer": name, "share": share, "without": without, "perplexity": perplexity}
        record |= {"settings": self.shared.settings(name)}
        self.records = keep(self.records, record)
        self.records.sort(key=lambda one: (one["share"], [DENSE, *PEERS].index(one["peer"]), one["without"]))
        write_json(FILE, self.records)
        with atomic(FILE.with_suffix(".md")) as temporary:
            temporary.write_text(markdown(self.records), encoding="utf-8")


def markdown(records: list[Record]) -> str:
    """data/peers/left_out.md: a table for each share, of the peers whose runs are all there."""
    found = {key(one): one["perplexity"] for one in records}
    dense = found[DENSE, 0.0, EVERYTHING]
    parts = ["# Other methods, on text that their calibration never saw", NOTE]
    for share in dict.fromkeys(one["share"] for one in records if one["peer"] != DENSE):
        rows = []
        for name, peer in PEERS.items():
            whole = found.get((name, share, EVERYTHING), {})
            alone = {domain: found.get((name, share, domain), {}).get(domain) for domain in dense}
            if not whole or None in alone.values():
                continue
            ratios = [value / dense[domain] for domain, value in alone.items() if value is not None]
            inside = geometric_mean([whole[domain] / dense[domain] for domain in dense])
            outside = geometric_mean(ratios)
            change = f"{outside / inside - 1:+.1%}"
            cells = [f"{value:.2f}" for value in (inside, outside, *ratios)]
            rows.append((peer.title, *cells[:2], change, *cells[2:]))
        heading = f"## {share:.0%} of the decoder's parameters"
        parts += [heading, markdown_table((*COLUMNS, *dense), rows)]
    return "\n\n".join(parts) + "\n"
