"""The sections of the report, one function each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from secateurs.evaluation.scores import headline, headline_metric, kept, mean_error
from secateurs.evaluation.units import count, percent, size
from secateurs.kinds.registry import kinds, units
from stages.reporting.figures import FIGURES, uniform
from stages.reporting.metrics import Evidence, Metrics, mean_agreement
from stages.reporting.page_parts import COLUMNS, Block, Data, Figure, Row, Sample, Section, Table, Text


def headline_rows(metrics: Metrics) -> list[Row]:
    """The six rows that matter most, as text: name, dense, pruned, how far apart they are."""
    dense, pruned, ratio = metrics["dense"], metrics["pruned"], metrics["ratio"]

    def row(name: str, key: str, show: Callable[[float], str]) -> Row:
        return (name, *(show(at(model, key)) for model in (dense, pruned)), percent(at(ratio, key)))

    rows = [row("perplexity, geometric mean", "perplexity.geometric_mean", "{:.2f}".format)]
    if "mean" in dense["accuracy"]:
        accuracies = [one["accuracy"] for one in (dense, pruned, metrics["difference"])]
        *cells, _ = (f"{one['mean']:.3f} ± {one['mean_stderr']:.3f}" for one in accuracies)
        apart = f"{100 * accuracies[2]['mean']:+.1f} ± {100 * accuracies[2]['mean_stderr']:.1f} points"
        rows += [("zero-shot accuracy, mean", *cells, apart), *_kept(metrics)]
    else:
        rows.append(row("decoder parameters", "decoder_parameters", count))
    return [
        *rows,
        row("bits per byte, mean", "bits_per_byte.mean", "{:.3f}".format),
        row("multiply-adds per token", "macs_per_token", count),
        row("all parameters", "parameters", count),
        row("weights on disk", "weight_bytes", size),
    ]


def _kept(metrics: Metrics) -> list[Row]:
    """What was kept of all columns of the tasks; nothing where there is one column, whose ratio says it."""
    shares = metrics["ratio"].get("kept")
    if shares is None:
        return []
    return [
        ("kept share of abilities, worst", "", "", f"{shares['worst']:.3f}"),
        ("kept share of abilities, mean", "", "", f"{shares['mean']:.3f}"),
    ]


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
    yield Section("Zero-shot tasks", (table, note, *_shares(evidence), *_figure("accuracy_by_task")))


def _shares(evidence: Evidence) -> list[Text]:
    """What was kept of each column of the tasks; nothing where there is one column."""
    found = kept(evidence.pruned["accuracy"], evidence.dense["accuracy"])
    if found is None:
        return []
    columns = ", ".join(f"{name} {share:.3f}" for name, share in found.shares.items())
    return [
        Text(
            f"Kept of the dense model's abilities (pruned / dense): {columns}; the worst {found.worst:.3f}, "
            f"the mean {found.mean:.3f}."
        )
    ]


def cost(metrics: Metrics) -> Section:
    """Size and work, which are the same on every machine."""
    shown = (
        ("decoder parameters", "decoder_parameters", count),
        ("all parameters", "parameters", count),
        ("multiply-adds per token", "macs_per_token", count),
        ("weights on disk", "weight_bytes", size),
    )
    rows = [
        (name, *(show(metrics[one][key]) for one in ("dense", "pruned")), f"{metrics['ratio'][key]:.3f}")
        for name, key, show in shown
    ]
    note = Text(
        "Multiply-adds: linear modules and head, without attention scores. How much of that becomes time "
        "depends on the machine, the runtime and the batch."
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
        "domains, nats per token, of the model before the round's cut, not healed; every round reads other "
        "text, so losses of two rounds differ by their text too. Agreement: "
        "mean rank correlation between the channel scores of two domains."
    )
    columns = ("round", "metric", "removed", "calibration loss", "agreement")
    given = _given(evidence.rounds)
    return Section("Rounds", (Table(columns, rows), note, *given, *_weights(evidence.rounds)))


def _given(entries: Sequence[Mapping[str, Any]]) -> list[Text]:
    """What each kind gave of the parameters that went; nothing where one kind gave all."""
    if "removed" not in entries[-1]:
        return []
    given = ", ".join(f"{kind} {count(part)}" for kind, part in entries[-1]["removed"].items())
    return [Text(f"Parameters removed after the last round: {given}.")]


def _weights(entries: Sequence[Mapping[str, Any]]) -> list[Block]:
    """How much each domain counted in each round, and what it had lost; nothing where weights were fixed."""
    moved = [entry for entry in entries if "weights" in entry]
    if not moved:
        return []
    rows = [
        (domain, *(f"{entry['weights'][domain]:.2f} ({entry['lost'][domain]:.3f})" for entry in moved))
        for domain in moved[-1]["weights"]
    ]
    note = Text(
        "Weight of each domain, and in brackets what it had lost before the round: KL(dense || cut so far), "
        "relative to the dense model's loss, on text by which nothing was scored or healed:"
    )
    return [note, Table(("domain", *(entry["round"] for entry in moved)), rows)]


def layers(evidence: Evidence) -> Section:
    """What each layer keeps, and what it misses before and after healing."""
    blocks: list[Block] = []
    if evidence.rounds[-1]["kept"]:
        blocks += [Text(_widths(evidence))] if uniform(evidence) else _figure("kept_channels")
    if evidence.healing:
        blocks += _figure("healing_error")
    return Section("Layers", blocks)


def _widths(evidence: Evidence) -> str:
    """What every layer keeps, in a sentence for each kind of site."""
    last = evidence.rounds[-1]
    return " ".join(
        f"Every layer keeps {widths[0]:,} of {last['full'][kind]:,} {kinds()[kind].unit} ({kind})."
        for kind, widths in last["kept"].items()
    )


def agreement(evidence: Evidence) -> Section:
    """How alike the domains rank what can go."""
    note = Text(
        "Spearman's rank correlation of two domains' scores, over the "
        f"{units(evidence.rounds[-1]['kept'])} that were left before the last round."
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
