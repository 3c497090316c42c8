"""data/report.md: what was pruned, what it cost and what it saved."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stages.evaluation.figures import FIGURES
from stages.evaluation.metrics import Evidence, Metrics, headline, mean_agreement

Row = tuple[str, ...]
COLUMNS = ("", "dense", "pruned", "ratio")


def render_page(model_name: str, evidence: Evidence, metrics: Metrics) -> str:
    """The report as Markdown; pictures are linked as plots/<name>.png."""
    sparsity, rounds = metrics["pruned"]["sparsity"], len(evidence.rounds)
    parts = [
        f"# {model_name}, pruned",
        f"{sparsity['decoder']:.1%} of the decoder layers' parameters removed ({sparsity['all']:.1%} of all "
        f"parameters), in {rounds} round{'s' if rounds > 1 else ''}, channels ranked by "
        f"`{metrics['calibration']['metric']}`. The pruned model is in `data/pruned`.",
        _table(COLUMNS, headline_rows(metrics)),
        "## Domains",
        "Text that was held out from pruning and healing. Perplexity is per token; bits per byte do not "
        "depend on the tokenizer.",
        _table(
            ("domain", "tokens", "perplexity, dense", "pruned", "ratio", "bits per byte, dense", "pruned"),
            _domain_rows(evidence, metrics),
        ),
        _picture("perplexity_by_domain"),
        *_zero_shot(evidence),
        "## Cost",
        _table(COLUMNS, _cost_rows(metrics)),
        _cost_notes(evidence.pruned["settings"]),
        "## Rounds",
        _table(("round", "metric", "removed", "calibration loss", "agreement"), _round_rows(evidence)),
        "Removed: share of the decoder layers' parameters, after the round. Calibration loss: mean over the "
        "domains, nats per token, before the round's cut, of the cut and not yet healed model. Agreement: "
        "mean rank correlation between the channel scores of two domains.",
        *(_picture(name) for name in ("calibration_loss", "kept_channels", "domain_agreement")),
        "## What the models write",
        *_samples(evidence),
    ]
    return "\n\n".join(parts) + "\n"


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
        cell = form.format(_at(metrics[model], key))
        cells.append(f"{cell} ± {form.format(_at(metrics[model], f'{key}_stderr'))}" if error else cell)
    return (name, *cells, f"{_at(metrics['ratio'], key):.3f}")


def _at(tree: Mapping[str, Any], key: str) -> Any:
    node: Any = tree
    for name in key.split("."):
        node = node[name]
    return node


def _domain_rows(evidence: Evidence, metrics: Metrics) -> Iterable[Row]:
    dense, pruned, ratio = metrics["dense"], metrics["pruned"], metrics["ratio"]
    for domain, score in evidence.dense["perplexity"]["domains"].items():
        yield (
            domain,
            f"{score['tokens']:,}",
            f"{dense['perplexity'][domain]:.2f}",
            f"{pruned['perplexity'][domain]:.2f}",
            f"{ratio['perplexity'][domain]:.3f}",
            f"{dense['bits_per_byte'][domain]:.3f}",
            f"{pruned['bits_per_byte'][domain]:.3f}",
        )


def _zero_shot(evidence: Evidence) -> list[str]:
    tasks = evidence.dense["accuracy"]
    if not tasks:
        return []
    rows = []
    for task, dense in tasks.items():
        values = [headline(one) for one in (dense, evidence.pruned["accuracy"][task])]
        kind = "per character" if "acc_norm" in dense else "plain"
        rows.append(
            (task, kind, f"{dense['items']}", *(f"{value:.3f} ± {error:.3f}" for value, error in values))
        )
    return [
        "## Zero-shot tasks",
        _table(("task", "choices compared", "items", "dense", "pruned"), rows),
        "lm-eval's stock prompts, the same items for both models; ± is one standard error of the sampled "
        "items. Choices are compared by log-likelihood per character where the stock task reports that "
        "(`acc_norm`), else by plain log-likelihood (`acc`).",
    ]


def _cost_rows(metrics: Metrics) -> list[Row]:
    return [
        _row(metrics, "decoder parameters", "{:,}", "decoder_parameters"),
        _row(metrics, "all parameters", "{:,}", "parameters"),
        _row(metrics, "multiply-adds per token", "{:,}", "macs_per_token"),
        _row(metrics, "weights on disk, bytes", "{:,}", "weight_bytes"),
        _row(metrics, "peak memory, MB", "{:,}", "peak_memory_mb"),
        _row(metrics, "prefill, ms", "{:.1f}", "prefill_ms"),
        _row(metrics, "decode, ms per token", "{:.1f}", "decode_ms_per_token"),
    ]


def _cost_notes(settings: Mapping[str, Any]) -> str:
    threads = f" ({settings['threads']} threads)" if settings["device"] == "cpu" else ""
    return (
        "Multiply-adds: linear modules and head, without attention scores. Times: batch of one, a prompt of "
        f"{settings['prompt_tokens']} tokens, then {settings['decode_tokens']} decoded with the KV cache, "
        f"{settings['dtype']} on {settings['device']}{threads}; both models in turn, {settings['repeats']} "
        "times; medians, and the median of the pairs' ratios. Peak memory: of the same work, in a process "
        "of its own."
    )


def _round_rows(evidence: Evidence) -> Iterable[Row]:
    for entry in evidence.rounds:
        losses = entry["loss"].values()
        agreement = mean_agreement(entry)
        yield (
            entry["round"],
            entry["metric"],
            f"{entry['sparsity']:.1%}",
            f"{sum(losses) / len(losses):.3f}",
            "" if agreement is None else f"{agreement:.3f}",
        )


def _samples(evidence: Evidence) -> Iterable[str]:
    yield "Greedy continuations of the same prompts."
    for dense, pruned in zip(evidence.dense["samples"], evidence.pruned["samples"], strict=True):
        for title, text in (
            ("Prompt", dense["prompt"]),
            ("Dense", dense["continuation"]),
            ("Pruned", pruned["continuation"]),
        ):
            # An indented block shows the text as it is, whatever marks or fences it holds.
            yield f"{title}:\n\n" + "\n".join(f"    {line}" for line in text.strip("\n").splitlines())


def _picture(name: str) -> str:
    caption, _ = FIGURES[name]
    return f"![{caption}](plots/{name}.png)"


def _table(header: Sequence[str], rows: Iterable[Row]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
