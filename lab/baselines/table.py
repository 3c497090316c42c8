"""The records as tables: one row for each baseline and share, the dense model the measure of all."""

from collections.abc import Iterable

from lab.baselines.catalogue import BASELINES
from lab.baselines.records import DENSE, Record
from stages.reporting.markdown import markdown_table
from stages.reporting.metrics import mean_accuracy

Row = tuple[str, ...]

COLUMNS = (
    "method",
    "version",
    "decoder removed",
    "all removed",
    "perplexity / dense",
    "zero-shot",
    "prefill / dense",
    "decode / dense",
    "seconds to prune",
    "peak GiB",
    "loads in transformers",
)
NOTE = (
    "Perplexity: geometric mean over the held-out domains, divided by the dense model's {perplexity:.2f}. "
    "Zero-shot: mean accuracy, dense {accuracy}. Latencies: medians of the ratios of neighbouring runs. "
    "Seconds and memory: of the whole process that prunes, with start, loading and saving. stock: a class of "
    "transformers loads the checkpoint in a fresh process and gives the same logits; own class: the class "
    "saved beside the weights does."
)


def markdown(records: list[Record]) -> str:
    """data/baselines/baselines.md: a table for each share, and one of the domains."""
    dense, others = _split(records)
    note = NOTE.format(perplexity=dense["perplexity"]["geometric_mean"], accuracy=_accuracy(dense))
    parts = ["# Other methods", note]
    for share in dict.fromkeys(record["share"] for record in others):
        rows = [_row(record, dense) for record in others if record["share"] == share]
        parts += [f"## {share:.0%} of the decoder's parameters", markdown_table(COLUMNS, rows)]
    columns = ("method", "share", *_domains(dense))
    rows = [
        (BASELINES[record["baseline"]].title, f"{record['share']:.0%}", *_by_domain(record, dense))
        for record in others
    ]
    return "\n\n".join([*parts, "## Perplexity / dense by domain", markdown_table(columns, rows)]) + "\n"


def csv_rows(records: list[Record]) -> list[Row]:
    """data/baselines/baselines.csv: column names, then the records by share, in the catalogue's order."""
    dense, others = _split(records)
    rows = [
        (
            f"{record['share']:g}",
            *_row(record, dense),
            record.get("setting", ""),
            *_by_domain(record, dense),
        )
        for record in others
    ]
    return [("share", *COLUMNS, "setting", *_domains(dense)), *rows]


def _split(records: Iterable[Record]) -> tuple[Record, list[Record]]:
    (dense,) = [record for record in records if record["baseline"] == DENSE]
    order = list(BASELINES)
    others = [record for record in records if record["baseline"] != DENSE]
    return dense, sorted(others, key=lambda record: (record["share"], order.index(record["baseline"])))


def _row(record: Record, dense: Record) -> Row:
    title = BASELINES[record["baseline"]].title
    if "failed" in record:
        return (title, *("",) * (len(COLUMNS) - 2), f"failed: {record['failed'].replace('|', '/')}")
    return (
        title,
        record["version"],
        _removed(record, dense, "decoder_parameters"),
        _removed(record, dense, "parameters"),
        shown_ratio(record["perplexity"]["geometric_mean"] / dense["perplexity"]["geometric_mean"]),
        _accuracy(record),
        f"{record['latency']['prefill_ms']:.2f}",
        f"{record['latency']['decode_ms_per_token']:.2f}",
        f"{record['seconds']:.0f}",
        f"{record['peak_bytes'] / 2**30:.1f}",
        record["loads"],
    )


def _domains(dense: Record) -> Row:
    return tuple(dense["perplexity"]["domains"])


def _by_domain(record: Record, dense: Record) -> Row:
    domains = dense["perplexity"]["domains"]
    if "failed" in record:
        return ("",) * len(domains)
    found = record["perplexity"]["domains"]
    return tuple(shown_ratio(found[name]["perplexity"] / one["perplexity"]) for name, one in domains.items())


def shown_ratio(ratio: float) -> str:
    """Two decimals, and none where nothing is left of the model."""
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"


def _removed(record: Record, dense: Record, key: str) -> str:
    return f"{1 - record['cost'][key] / dense['cost'][key]:.1%}"


def _accuracy(record: Record) -> str:
    mean = mean_accuracy(record)
    return "" if mean is None else shown_accuracy(*mean)


def shown_accuracy(accuracy: float, stderr: float) -> str:
    """With its standard error."""
    return f"{accuracy:.3f} ± {stderr:.3f}"
