"""Stage: the recovered model's measures and their ratios to the dense model's (optional pipeline)."""

from secateurs.files.json_file import write_json
from stages.common.artifacts import read_json
from stages.common.console import headline, stage, summary
from stages.common.locks import hold
from stages.common.paths import EVALUATIONS, HEALING, RECOVERED, RECOVERED_METRICS, ROUNDS
from stages.params.file import read_params
from stages.reporting.metrics import Metrics, build_metrics, read_evidence
from stages.reporting.sections import headline_rows

COLUMNS = ("", "dense", "recovered", "change")


@stage
def main() -> None:
    """Write data/recovered.json; print the headline table, and what the recovery did to accuracy."""
    hold(RECOVERED_METRICS)
    history = ROUNDS / read_params().surgery.after / "history.json"
    metrics = build_metrics(read_evidence(EVALUATIONS, history, HEALING, "recovered"))
    pruned = build_metrics(read_evidence(EVALUATIONS, history, HEALING))["pruned"]
    recovery = read_json(RECOVERED / "recovery.json")
    done = {
        key: recovery[key]
        for key in ("training", "scales_first", "steps", "kept", "tokens", "parameters", "shares")
    }
    done |= {
        when: {key: round(one, 4) for key, one in recovery[when].items()} for when in ("before", "after")
    }
    if recovery["agreement"] is not None:
        done["agreement"] = {when: round(share, 4) for when, share in recovery["agreement"].items()}
    shown = {
        "recovered": metrics["pruned"],
        "ratio": metrics["ratio"],
        "pruned": {key: pruned[key] for key in ("perplexity", "accuracy")},
        "recovery": done,
    }
    write_json(RECOVERED_METRICS, shown)
    headline([COLUMNS, *headline_rows(metrics)])
    summary(
        "recovered",
        f"{_accuracies(metrics['dense'], pruned, metrics['pruned'])}{RECOVERED_METRICS}; the recovered model "
        f"is in {RECOVERED}",
    )


def _accuracies(dense: Metrics, pruned: Metrics, recovered: Metrics) -> str:
    """Mean accuracies with their standard errors; nothing without tasks."""
    models = {"dense": dense, "pruned": pruned, "recovered": recovered}
    shown = [
        f"{name} {model['accuracy']['mean']:.3f} ± {model['accuracy']['mean_stderr']:.3f}"
        for name, model in models.items()
        if "mean" in model["accuracy"]
    ]
    return f"zero-shot accuracy, mean: {', '.join(shown)}; " if shown else ""


if __name__ == "__main__":
    main()
