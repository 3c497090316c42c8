"""From two evaluations and the rounds to data/metrics.json: rounded, nested by dense / pruned / ratio."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateurs.errors import InputError
from secateurs.evaluation.paired import mean_of
from secateurs.evaluation.scores import averaged, headline, kept, mean_error
from stages.common.artifacts import read_answers, read_json

Evaluation = Mapping[str, Any]
Round = Mapping[str, Any]
Metrics = dict[str, Any]

# What the three stages of an evaluation write.
PARTS = {
    "perplexity": ("perplexity", "samples", "settings"),
    "tasks": ("accuracy", "settings"),
    "cost": ("cost",),
}
ROUND_KEYS = ("round", "progress", "metric", "sparsity", "loss", "kept", "full", "agreement")

HEALING_KEYS = ("layer", "site", "before", "after")


@dataclass(frozen=True)
class Evidence:
    """Everything that is reported on: both evaluations, an entry per round, in order, and per healed site.

    differences: by task, for each item the pruned model's score minus the dense model's.
    """

    dense: Evaluation
    pruned: Evaluation
    rounds: Sequence[Round]
    healing: Sequence[Mapping[str, Any]]
    differences: Mapping[str, Sequence[float]]


def read_evidence(evaluations: Path, history: Path, healing: Path, name: str = "pruned") -> Evidence:
    """Read the evaluations `dense` and `<name>`, which stands for the pruned one, rounds and healing.

    Raises InputError when a file lacks something or when the evaluations are not of the same items.
    """
    dense, pruned = (_read_evaluation(evaluations / one) for one in ("dense", name))
    for group in ("perplexity", "accuracy"):
        ours, theirs = _names(dense, group), _names(pruned, group)
        if ours != theirs:
            raise InputError(
                f"{evaluations}: {group}: dense has {', '.join(ours)}, {name} has {', '.join(theirs)}; run "
                "both evaluations again"
            )
    answers = [_read_answers(evaluations / one / "answers.parquet") for one in ("dense", name)]
    if list(answers[0]) != list(answers[1]):
        raise InputError(f"{evaluations}: dense and {name} answered other items; run both evaluations again")
    rounds = read_json(history)
    if not isinstance(rounds, list) or not rounds:
        raise InputError(f"{history}: expected a list with an entry for each round")
    for entry in rounds:
        _check_keys(history, entry, ROUND_KEYS)
    healed = read_json(healing)
    for entry in healed:
        _check_keys(healing, entry, HEALING_KEYS)
    return Evidence(dense, pruned, rounds, healed, _differences(*answers))


def build_metrics(evidence: Evidence) -> Metrics:
    """All measures, rounded to what they mean; a ratio is pruned / dense."""
    dense, pruned = _measures(evidence.dense), _measures(evidence.pruned)
    removed = dense["decoder_parameters"] - pruned["decoder_parameters"]
    pruned["sparsity"] = {
        "decoder": round(removed / dense["decoder_parameters"], 4),
        "all": round(1 - pruned["parameters"] / dense["parameters"], 4),
    }
    return {
        "dense": dense,
        "pruned": pruned,
        "ratio": _ratios(evidence),
        "difference": {
            "accuracy": difference(evidence.differences, averaged(evidence.dense["accuracy"])),
        },
        "calibration": _calibration(evidence.rounds),
    }


def difference(differences: Mapping[str, Sequence[float]], together: Sequence[str]) -> Metrics:
    """By task, mean over items of pruned - dense and its standard error; `mean` is over the tasks `together`.

    Both models answer the same items, so what makes an item easy for both is not in the error:
    sqrt(sum (d - mean d)^2 / (n - 1) / n), and for the mean over k tasks sqrt(sum error^2) / k.
    """
    pairs = {task: mean_error(values) for task, values in differences.items()}
    found: Metrics = {}
    for task, (value, error) in pairs.items():
        found[task], found[f"{task}_stderr"] = round(value, 4), round(error, 4)
    if together:
        value, error = mean_of([pairs[task] for task in together])
        found["mean"], found["mean_stderr"] = round(value, 4), round(error, 4)
    return found


def mean_accuracy(evaluation: Evaluation) -> tuple[float, float] | None:
    """Mean of the headline accuracies of the averaged tasks and its standard error; None without tasks."""
    accuracy = evaluation["accuracy"]
    pairs = [headline(accuracy[task]) for task in averaged(accuracy)]
    if not pairs:
        return None
    spread = math.sqrt(math.fsum(stderr**2 for _, stderr in pairs))
    return math.fsum(value for value, _ in pairs) / len(pairs), spread / len(pairs)


def mean_bits(evaluation: Evaluation) -> float:
    """Mean over domains of bits per byte."""
    domains = evaluation["perplexity"]["domains"].values()
    return math.fsum(domain["bits_per_byte"] for domain in domains) / len(domains)


def mean_agreement(entry: Round) -> float | None:
    """Mean rank correlation between the scores of two domains; None when there is only one domain."""
    matrix = entry["agreement"]["matrix"]
    pairs = [matrix[row][column] for row in range(len(matrix)) for column in range(row)]
    return math.fsum(pairs) / len(pairs) if pairs else None


def _measures(evaluation: Evaluation) -> Metrics:
    domains = evaluation["perplexity"]["domains"]
    cost = evaluation["cost"]
    accuracy: Metrics = {
        task: {key: value if key == "items" else round(value, 4) for key, value in values.items()}
        for task, values in evaluation["accuracy"].items()
    }
    mean = mean_accuracy(evaluation)
    if mean is not None:
        accuracy["mean"], accuracy["mean_stderr"] = round(mean[0], 4), round(mean[1], 4)
    return {
        "perplexity": {
            "geometric_mean": round(evaluation["perplexity"]["geometric_mean"], 3),
            **{name: round(domain["perplexity"], 3) for name, domain in domains.items()},
        },
        "bits_per_byte": {
            "mean": round(mean_bits(evaluation), 4),
            **{name: round(domain["bits_per_byte"], 4) for name, domain in domains.items()},
        },
        "accuracy": accuracy,
        "parameters": cost["parameters"],
        "decoder_parameters": cost["decoder_parameters"],
        "macs_per_token": cost["macs_per_token"],
        "weight_bytes": cost["weight_bytes"],
    }


def _ratios(evidence: Evidence) -> Metrics:
    dense, pruned = evidence.dense, evidence.pruned
    perplexity = {"geometric_mean": _ratio(pruned["perplexity"], dense["perplexity"], "geometric_mean")}
    for name, domain in dense["perplexity"]["domains"].items():
        perplexity[name] = _ratio(pruned["perplexity"]["domains"][name], domain, "perplexity")
    ratios: Metrics = {
        "perplexity": perplexity,
        "bits_per_byte": {"mean": round(mean_bits(pruned) / mean_bits(dense), 4)},
    }
    before, after = mean_accuracy(dense), mean_accuracy(pruned)
    if before is not None and after is not None:
        if before[0] == 0:
            raise InputError("data/evaluations/dense/tasks.json: the dense model answers nothing right")
        ratios["accuracy"] = {"mean": round(after[0] / before[0], 4)}
    shares = kept(pruned["accuracy"], dense["accuracy"])
    if shares is not None:
        by_column = {name: round(share, 4) for name, share in shares.shares.items()}
        ratios["kept"] = {"worst": round(shares.worst, 4), "mean": round(shares.mean, 4), **by_column}
    for key in ("parameters", "decoder_parameters", "macs_per_token", "weight_bytes"):
        ratios[key] = _ratio(pruned["cost"], dense["cost"], key)
    return ratios


def _ratio(ours: Mapping[str, float], theirs: Mapping[str, float], key: str) -> float:
    return round(ours[key] / theirs[key], 4)


def _calibration(rounds: Sequence[Round]) -> Metrics:
    last = rounds[-1]
    metrics: Metrics = {
        "metric": last["metric"],
        "rounds": len(rounds),
        "domains": len(last["loss"]),
        # What the last round still saw, before its own cut.
        "loss_before_last_cut": {domain: round(loss, 4) for domain, loss in last["loss"].items()},
    }
    agreement = mean_agreement(last)
    if agreement is not None:
        metrics["agreement"] = round(agreement, 4)
    return metrics


def _read_evaluation(directory: Path) -> Evaluation:
    """What the three stages wrote, as one."""
    evaluation: dict[str, Any] = {"settings": {}}
    for part, keys in PARTS.items():
        path = directory / f"{part}.json"
        found = read_json(path)
        _check_keys(path, found, keys)
        settings = evaluation["settings"] | found.get("settings", {})
        evaluation |= found | {"settings": settings}
    return evaluation


def _read_answers(path: Path) -> dict[tuple[str, str], float]:
    return {(row.task, row.item): row.score for row in read_answers(path)}


def _differences(
    dense: Mapping[tuple[str, str], float], pruned: Mapping[tuple[str, str], float]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for (task, item), score in dense.items():
        found.setdefault(task, []).append(pruned[task, item] - score)
    return found


def _check_keys(path: Path, data: Mapping[str, Any], keys: Sequence[str]) -> None:
    missing = [key for key in keys if key not in data]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; run the stage that writes it again")


def _names(evaluation: Evaluation, group: str) -> list[str]:
    return list(evaluation[group]["domains"] if group == "perplexity" else evaluation[group])
