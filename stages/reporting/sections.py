"""The sections of the report, one function each."""

from collections.abc import Iterable, Mapping
from typing import Any

from secateurs.evaluation.scores import headline, headline_metric, mean_error
from stages.reporting.blocks import COLUMNS, Block, Data, Figure, Row, Sample, Section, Table, Text
from stages.reporting.figures import FIGURES
from stages.reporting.metrics import Evidence, Metrics, mean_agreement

# Above this share of the processors at work beforehand, times are not those of the model alone.
BUSY = 0.25


def headline_rows(metrics: Metrics) -> list[Row]:
    """The rows that matter most, as text: name, dense, pruned, ratio."""
    rows = [
        _row(metrics, "perplexity, geometric mean", "{:.2f}", "perplexity.geometric_mean"),
        _row(metrics, "bits per byte, mean", "{:.3f}", "bits_per_byte.mean"),
    ]
    if "mean" in metrics["dense"]["accuracy"]:
        rows.append(_row(metrics, "zero-shot accuracy, mean", "{:.3f}", "accuracy.mean", error=True))
        rows += _difference(metrics)
    return [
        *rows,
        _row(metrics, "decoder parameters", "{:,}", "decoder_parameters"),
        _row(metrics, "all parameters", "{:,}", "parameters"),
        _row(metrics, "weights on disk, bytes", "{:,}", "weight_bytes"),
        _row(metrics, "prefill, ms", "{:.1f}", "prefill_ms"),
        _row(metrics, "decode, ms per token", "{:.1f}", "decode_ms_per_token"),
    ]


def _row(metrics: Metrics, name: str, form: str, key: str, error: bool = False) -> Row:
    cells = []
    for model in ("dense", "pruned"):
        cell = form.format(at(metrics[model], key))
        cells.append(f"{cell} ± {form.format(at(metrics[model], f'{key}_stderr'))}" if error else cell)
    return (name, *cells, f"{at(metrics['ratio'], key):.3f}")


def _difference(metrics: Metrics) -> list[Row]:
    """The paired difference; nothing of metrics that were written before it was measured."""
    if "difference" not in metrics:
        return []
    apart = metrics["difference"]["accuracy"]
    return [("accuracy, pruned - dense", "", f"{apart['mean']:+.3f} ± {apart['mean_stderr']:.3f}", "")]


def at(tree: Mapping[str, Any], key: str) -> Any:
    """The value at `a.b.c` of nested mappings."""
    node: Any = tree
    for name in key.split("."):
        node = node[name]
    return node


def domains(evidence: Evidence, metrics: Metrics) -> Section:
    """Held-out text, domain by domain."""
    dense, pruned, ratio = metrics["dense"], metrics["pruned"], metrics["ratio"]
    scores = evidence.dense["perplexity"]["domains"]
    perplexity = [
        (
            domain,
            f"{dense['perplexity'][domain]:.2f}",
            f"{pruned['perplexity'][domain]:.2f}",
            f"{ratio['perplexity'][domain]:.3f}",
        )
        for domain in scores
    ]
    bits = [
        (
            domain,
            f"{dense['bits_per_byte'][domain]:.3f}",
            f"{pruned['bits_per_byte'][domain]:.3f}",
            f"{score['tokens']:,}",
        )
        for domain, score in scores.items()
    ]
    note = Text("Text that was held out from pruning and healing. Perplexity is per token.")
    other = Text(
        "Bits per byte, which do not depend on the tokenizer, and the tokens that both were taken on:"
    )
    return Section(
        "Domains",
        (
            note,
            Table(("perplexity", *COLUMNS[1:]), perplexity),
            *_figure("perplexity_by_domain"),
            other,
            Table(("bits per byte", *COLUMNS[1:3], "tokens"), bits),
        ),
    )


def zero_shot(evidence: Evidence) -> Iterable[Section]:
    """Accuracies with their errors; nothing without tasks."""
    tasks = evidence.dense["accuracy"]
    if not tasks:
        return
    rows = []
    for task, dense in tasks.items():
        values = [headline(one) for one in (dense, evidence.pruned["accuracy"][task])]
        apart = mean_error(evidence.differences[task])
        cells = [f"{value:.3f} ± {error:.3f}" for value, error in values]
        difference = f"{apart[0]:+.3f} ± {apart[1]:.3f}"
        rows.append((task, *cells, difference, f"{dense['items']:,}", headline_metric(dense)))
    note = Text(
        "lm-eval's stock prompts, the same items for both models; ± is one standard error of the sampled "
        "items, and of pruned - dense that of the items' own differences. `acc_norm` compares choices by "
        "log-likelihood per character, `acc` by plain log-likelihood; other measures are of text that the "
        "model writes, and enter no mean."
    )
    table = Table(("task", *COLUMNS[1:3], "pruned - dense", "items", "measure"), rows)
    yield Section("Zero-shot tasks", (table, note, *_figure("accuracy_by_task")))


def cost(evidence: Evidence, metrics: Metrics) -> Section:
    """Size, work, memory and time."""
    rows = [
        _row(metrics, "decoder parameters", "{:,}", "decoder_parameters"),
        _row(metrics, "all parameters", "{:,}", "parameters"),
        _row(metrics, "multiply-adds per token", "{:,}", "macs_per_token"),
        _row(metrics, "weights on disk, bytes", "{:,}", "weight_bytes"),
        _row(metrics, "peak memory, MB", "{:,}", "peak_memory_mb"),
        _row(metrics, "prefill, ms", "{:.1f}", "prefill_ms"),
        _row(metrics, "decode, ms per token", "{:.1f}", "decode_ms_per_token"),
    ]
    settings = evidence.pruned["settings"]
    threads = f" ({settings['threads']} threads)" if settings["device"] == "cpu" else ""
    note = Text(
        "Multiply-adds: linear modules and head, without attention scores. Times: batch of one, a prompt of "
        f"{settings['prompt_tokens']} tokens, then {settings['decode_tokens']} decoded with the KV cache, "
        f"{settings['dtype']} on {settings['device']}{threads}; both models in turn, {settings['repeats']} "
        "times; medians, and the median of the pairs' ratios. Peak memory: of the same work, in a process "
        "of its own."
    )
    return Section("Cost", (Table(COLUMNS, rows), note, _spread(evidence.pruned["latency"])))


def _spread(latency: Mapping[str, Any]) -> Text:
    """How far the pairs were apart, and whether something else was at work."""
    parts = []
    for name, key in (("prefill", "prefill_ms"), ("decode", "decode_ms_per_token")):
        low, high = latency["lowest"][key], latency["highest"][key]
        same = ", so no difference is shown" if low <= 1 <= high else ""
        parts.append(f"{name} {low:.2f} to {high:.2f}{same}")
    busy = ""
    if latency["busy"] > BUSY:
        busy = (
            f" The machine was busy with something else ({latency['busy']:.0%} of its processors): the times "
            "are longer than they need be, and only the ratios mean something."
        )
    return Text(f"Ratios of single pairs: {'; '.join(parts)}.{busy}")


def rounds(evidence: Evidence) -> Section:
    """What each round measured and removed."""
    rows = []
    for entry in evidence.rounds:
        losses = entry["loss"].values()
        agreement = mean_agreement(entry)
        rows.append(
            (
                entry["round"],
                entry["metric"],
                f"{entry['sparsity']:.1%}",
                f"{sum(losses) / len(losses):.3f}",
                "" if agreement is None else f"{agreement:.3f}",
            )
        )
    note = Text(
        "Removed: share of the decoder layers' parameters, after the round. Calibration loss: mean over the "
        "domains, nats per token, of the model before the round's cut, not healed; every round reads other "
        "text, so losses of two rounds differ by their text too. Agreement: "
        "mean rank correlation between the channel scores of two domains."
    )
    columns = ("round", "metric", "removed", "calibration loss", "agreement")
    return Section("Rounds", (Table(columns, rows), note))


def layers(evidence: Evidence) -> Section:
    """What each layer keeps, and what it misses before and after healing."""
    blocks: list[Block] = [*_figure("kept_channels")]
    if evidence.healing:
        before, after = (
            sum(one[key] for one in evidence.healing) / len(evidence.healing) for key in ("before", "after")
        )
        blocks.append(
            Text(
                "Healing refits each cut projection, in closed form. On average over the sites, it misses "
                f"{before:.1%} of its target's energy when it is cut, and {after:.1%} when it is healed."
            )
        )
        blocks += _figure("healing_error")
    return Section("Layers", blocks)


def agreement() -> Section:
    """How alike the domains rank the channels."""
    note = Text(
        "Spearman's rank correlation of two domains' scores, over the channels that were left before the "
        "last round."
    )
    return Section("Domain agreement", (note, *_figure("domain_agreement")))


def data(tables: Mapping[str, str]) -> Section:
    """What the figures were drawn from."""
    note = Text("What the figures show, as tables; `data/metrics.json` has all measures.")
    return Section("Data", (note, *(Data(name, text) for name, text in tables.items())))


def continuations(evidence: Evidence) -> Section:
    """What both models write."""
    samples = [
        Sample(dense["prompt"], dense["continuation"], pruned["continuation"])
        for dense, pruned in zip(evidence.dense["samples"], evidence.pruned["samples"], strict=True)
    ]
    note = Text("Greedy continuations of the same prompts.")
    return Section("What the models write", (note, *samples))


def _figure(name: str) -> list[Figure]:
    return [Figure(name, FIGURES[name].title, FIGURES[name].note)]
