"""The left-out table: each domain scored after prunings that never saw its text."""

from collections.abc import Iterable
from pathlib import Path
from statistics import geometric_mean

from lab.baselines.catalogue import BASELINES
from lab.baselines.records import DENSE, Record, key
from lab.baselines.runs import EVERYTHING, Measure, Run
from lab.baselines.shared import Shared
from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.devices.placement import place
from secateurs.evaluation.perplexity import score_domains
from stages.common.paths import BASELINES as TABLES
from stages.reporting.markdown import markdown_table

FILE = TABLES / "left_out.json"
NOTE = (
    "Held-out perplexity / dense, geometric means over the domains. In the mix: one pruning, on the text of "
    "all domains. Left out: a pruning for each domain, on the text of all the others, scored on that domain "
    "alone; so are the columns of the domains. Methods that read no text are not in the table, because "
    "theirs would be the same."
)
COLUMNS = ("method", "in the mix", "left out", "change")


def left_out(shared: Shared) -> Measure:
    """Held-out perplexity of the domain left out alone, or of each domain where none was."""

    def score(directory: Path, without: str) -> Record:
        params = shared.params
        rows = [row for row in shared.heldout if without in (EVERYTHING, row.domain)]
        model = place(load_model(directory, params.compute.dtype), params.compute.device)
        scores = score_domains(model, load_tokenizer(directory), rows, params.evaluate.batch_size)
        return {"perplexity": {name: one.perplexity for name, one in scores.items()}}

    return Measure(FILE, score, shared.settings, markdown)


def prunings(shared: Shared, names: Iterable[str], shares: Iterable[float]) -> list[Run]:
    """For every baseline that reads text, one with all domains and one without each."""
    domains = dict.fromkeys(row.domain for row in shared.heldout)
    return [
        (name, share, without)
        for share in shares
        for name in names
        for without in (EVERYTHING, *domains)
        if BASELINES[name].reads_text
    ]


def markdown(records: list[Record]) -> str:
    """data/baselines/left_out.md: a table for each share, of the baselines whose runs are all there."""
    found = {key(one): one["perplexity"] for one in records}
    dense = found[DENSE, 0.0, EVERYTHING]
    parts = ["# Other methods, on text that their calibration never saw", NOTE]
    for share in dict.fromkeys(one["share"] for one in records if one["baseline"] != DENSE):
        rows = []
        for name, baseline in BASELINES.items():
            whole = found.get((name, share, EVERYTHING), {})
            alone = {domain: found.get((name, share, domain), {}).get(domain) for domain in dense}
            if not whole or None in alone.values():
                continue
            ratios = [value / dense[domain] for domain, value in alone.items() if value is not None]
            inside = geometric_mean([whole[domain] / dense[domain] for domain in dense])
            outside = geometric_mean(ratios)
            change = f"{outside / inside - 1:+.1%}"
            cells = [f"{value:.2f}" for value in (inside, outside, *ratios)]
            rows.append((baseline.title, *cells[:2], change, *cells[2:]))
        heading = f"## {share:.0%} of the decoder's parameters"
        parts += [heading, markdown_table((*COLUMNS, *dense), rows)]
    return "\n\n".join(parts) + "\n"
