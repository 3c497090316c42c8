"""A made-up pair of evaluations and two rounds, with numbers that are easy to follow."""

import json
from pathlib import Path
from typing import Any

from stages.common.artifacts import AnswerRow, write_answers
from stages.reporting.metrics import Evidence, read_evidence

DOMAINS = ("code", "news")


def evaluation(factor: float) -> dict[str, Any]:
    return {
        "perplexity": {
            "geometric_mean": 10.00004 * factor,
            "domains": {
                domain: {"perplexity": 10.0 * factor, "bits_per_byte": 0.5 * factor, "tokens": 1020}
                for domain in DOMAINS
            },
        },
        "accuracy": {
            "piqa": {
                "acc": 0.5,
                "acc_stderr": 0.03,
                "acc_norm": 0.6 / factor,
                "acc_norm_stderr": 0.03,
                "items": 60,
            },
            "boolq": {"acc": 0.4 / factor, "acc_stderr": 0.04, "items": 60},
        },
        "cost": {
            "parameters": round(1500 / factor),
            "decoder_parameters": round(1000 / factor),
            "macs_per_token": round(1400 / factor),
            "weight_bytes": round(6000 / factor),
        },
        "samples": [{"prompt": "def f():\n", "continuation": " | return `x`\n```\nend"}],
        "settings": {
            "dtype": "float32",
            "device": "cpu",
            "threads": 2,
        },
    }


def history() -> list[dict[str, Any]]:
    return [
        {
            "round": f"r{number}",
            "progress": number / 2,
            "metric": "fisher",
            "sparsity": 0.1 * number,
            "loss": {"code": 2.0 + number, "news": 3.0 + number},
            "kept": {"mlp": [48 - 4 * number] * 3},
            "full": {"mlp": 48},
            "agreement": {"domains": list(DOMAINS), "matrix": [[1.0, 0.7], [0.7, 1.0]]},
        }
        for number in (1, 2)
    ]


def write_evaluation(directory: Path, evaluation: dict[str, Any], wrong: int) -> None:
    """An evaluation as its three stages write it; wrong: so many of each task's 60 items are."""
    directory.mkdir(parents=True)
    parts = {"perplexity": ("perplexity", "samples"), "tasks": ("accuracy",), "cost": ("cost",)}
    for part, keys in parts.items():
        content = {key: evaluation[key] for key in (*keys, "settings") if key in evaluation}
        (directory / f"{part}.json").write_text(json.dumps(content))
    rows = [
        AnswerRow(task, str(item), "acc", float(item >= wrong), "")
        for task in evaluation["accuracy"]
        for item in range(60)
    ]
    write_answers(directory / "answers.parquet", rows)


def write_evidence(data: Path) -> Evidence:
    """Write what the report reads; the same, read back."""
    dense, pruned = evaluation(1.0), evaluation(1.25)
    (data / "rounds" / "r2").mkdir(parents=True)
    write_evaluation(data / "evaluations" / "dense", dense, 0)
    write_evaluation(data / "evaluations" / "pruned", pruned, 12)
    (data / "rounds" / "r2" / "history.json").write_text(json.dumps(history()))
    healing = [{"layer": n, "site": f"{n}/mlp", "before": 0.2 + 0.1 * n, "after": 0.1} for n in range(3)]
    (data / "healing.json").write_text(json.dumps(healing))
    return read_back(data)


def read_back(data: Path) -> Evidence:
    """What `write_evidence` wrote, as the stages read it."""
    return read_evidence(data / "evaluations", data / "rounds/r2/history.json", data / "healing.json")
