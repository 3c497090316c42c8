"""The sections of the report, one function each."""

from collections.abc import Iterable, Mapping
from typing import Any

from stages.evaluation.blocks import COLUMNS, Figure, Row, Sample, Section, Table, Text
from stages.evaluation.figures import FIGURES
from stages.evaluation.metrics import Evidence, Metrics, headline, mean_agreement


def headline_rows(metrics: Metrics) -> list[Row]:
    """The rows that matter most, as text: name, dense, pruned, ratio."""
    rows = [
        _row(metrics, "perplexity, geometric mean", "{:.2f}", "perplexity.geometric_mean"),
        _row(metrics, "bits per byte, mean", "{:.3f}", "bits_per_byte.mean"),
    ]
    if "mean" in metrics["dense"]["accuracy"]:
        rows.append(_row(metrics, "zero-shot accuracy, mean", "{:.3f}", "accuracy.mean", error=True))
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


def at(tree: Mapping[str, Any], key: str) -> Any:
    """The value at `a.b.c` of nested mappings."""
    node: Any = tree
    for name in key.split("."):
        node = node[name]
    return node


def domains(evidence: Evidence, metrics: Metrics) -> Section:
    """Held-out text, domain by domain."""
    dense, pruned, ratio = metrics["dense"], metrics["pruned"], metrics["ratio"]
    rows = [
        (
            domain,
            f"{score['tokens']:,}",
            f"{dense['perplexity'][domain]:.2f}",
            f"{pruned['perplexity'][domain]:.2f}",
            f"{ratio['perplexity'][domain]:.3f}",
            f"{dense['bits_per_byte'][domain]:.3f}",
            f"{pruned['bits_per_byte'][domain]:.3f}",
        )
        for domain, score in evidence.dense["perplexity"]["domains"].items()
    ]
    note = Text(
        "Text that was held out from pruning and healing. Perplexity is per token; bits per byte do not "
        "depend on the tokenizer."
    )
    columns = ("domain", "tokens", "perplexity, dense", "pruned", "ratio", "bits per byte, dense", "pruned")
    return Section("Domains", (note, Table(columns, rows), _figure("perplexity_by_domain")))


def zero_shot(evidence: Evidence) -> Iterable[Section]:
    """Accuracies with their errors; nothing without tasks."""
    tasks = evidence.dense["accuracy"]
    if not tasks:
        return
    rows = []
    for task, dense in tasks.items():
        values = [headline(one) for one in (dense, evidence.pruned["accuracy"][task])]
        kind = "per character" if "acc_norm" in dense else "plain"
        rows.append(
            (task, kind, f"{dense['items']}", *(f"{value:.3f} ± {error:.3f}" for value, error in values))
        )
    note = Text(
        "lm-eval's stock prompts, the same items for both models; ± is one standard error of the sampled "
        "items. Choices are compared by log-likelihood per character where the stock task reports that "
        "(`acc_norm`), else by plain log-likelihood (`acc`)."
    )
    yield Section(
        "Zero-shot tasks", (Table(("task", "choices compared", "items", *COLUMNS[1:3]), rows), note)
    )


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
    return Section("Cost", (Table(COLUMNS, rows), note))


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
        "domains, nats per token, before the round's cut, of the cut and not yet healed model. Agreement: "
        "mean rank correlation between the channel scores of two domains."
    )
    columns = ("round", "metric", "removed", "calibration loss", "agreement")
    return Section("Rounds", (Table(columns, rows), note, _figure("calibration_loss")))


def layers() -> Section:
    """What each layer keeps."""
    return Section("Layers", (_figure("kept_channels"),))


def agreement() -> Section:
    """How alike the domains rank the channels."""
    note = Text(
        "How alike two domains rank the channels: Spearman's rank correlation of their scores, over the "
        "channels that were left before the last round. Where it is low, calibrating on one domain would "
        "cut what the other needs."
    )
    return Section("Domain agreement", (note, _figure("domain_agreement")))


def continuations(evidence: Evidence) -> Section:
    """What both models write."""
    samples = [
        Sample(dense["prompt"], dense["continuation"], pruned["continuation"])
        for dense, pruned in zip(evidence.dense["samples"], evidence.pruned["samples"], strict=True)
    ]
    note = Text("Greedy continuations of the same prompts.")
    return Section("What the models write", (note, *samples))


def _figure(name: str) -> Figure:
    return Figure(name, FIGURES[name][0])
