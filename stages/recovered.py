"""Stage: the recovered model's measures and their ratios to the dense model's (optional pipeline)."""

from stages.common.artifacts import read_json, write_json
from stages.common.console import headline, stage, summary
from stages.common.params import read_params
from stages.common.paths import EVALUATIONS, HEALING, RECOVERED, RECOVERED_METRICS, ROUNDS
from stages.evaluation.metrics import build_metrics, read_evidence
from stages.evaluation.sections import headline_rows

COLUMNS = ("", "dense", "recovered", "ratio")


@stage
def main() -> None:
    """Write data/recovered.json; print the headline table of dense and recovered model."""
    history = ROUNDS / read_params().surgery.after / "history.json"
    metrics = build_metrics(read_evidence(EVALUATIONS, history, HEALING, "recovered"))
    recovery = read_json(RECOVERED / "recovery.json")
    done = {key: recovery[key] for key in ("training", "tokens", "parameters")}
    done |= {
        when: {key: round(one, 4) for key, one in recovery[when].items()} for when in ("before", "after")
    }
    write_json(
        RECOVERED_METRICS, {"recovered": metrics["pruned"], "ratio": metrics["ratio"], "recovery": done}
    )
    headline([COLUMNS, *headline_rows(metrics)])
    summary("recovered", f"{RECOVERED_METRICS}; the recovered model is in {RECOVERED}")


if __name__ == "__main__":
    main()
