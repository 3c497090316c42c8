"""A project folder whose every input is local, and what a stage says when one of them is bad."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click import Command

from tests.project import change, invoke, lines_of, model_at, read_yaml, write_params

LINES = lines_of("tales.txt", 50)
ITEM = {"question": "Which sinks?", "choices": ["a stone", "ice"], "labels": ["A", "B"], "answer": "A"}


def local_params(dense_dir: Path, **changes: Any) -> dict[str, Any]:
    """params.yaml on local inputs; a change is `group__key=value`, or `group=value` for a whole group."""
    params = read_yaml()
    params |= {
        "model": model_at(dense_dir),
        "domains": {"tales": LINES},
        "mixture": {"tales": 1.0, "self": 1.0, "dialogues": 0.0},
        "benchmarks": {"openbookqa": {"source": "path", "path": "quiz.jsonl"}},
    }
    params["sample"] |= {"documents": 8, "tokens": 48}
    params["corpus"] |= {"sequence_length": 16, "calibration_sequences": 12, "heldout_sequences": 4}
    params["surgery"] |= {"sequences": 11, "choice_sequences": 1}
    params["prune"] |= {"width_multiple": 1}
    params["evaluate"] |= {"limit": 4, "prompt_tokens": 8, "decode_tokens": 2, "repeats": 1}
    return change(params, {key.replace("__", "."): value for key, value in changes.items()})


def make_project(root: Path, params: dict[str, Any]) -> None:
    """Write params.yaml and the local inputs that `local_params` names into `root`."""
    write_params(root, params)
    tales = [f"Tale {index}: they lived in house number {index * 7} until today." for index in range(50)]
    (root / "tales.txt").write_text("\n".join(tales), encoding="utf-8")
    (root / "quiz.jsonl").write_text(f"{json.dumps(ITEM)}\n" * 2, encoding="utf-8")


def said(command: Command, *arguments: str, before: Sequence[str] = ()) -> str:
    """The one message with which a stage refuses to run, its status checked, `Error: ` taken off.

    before: the lines of a message of several lines that come before its last one.
    """
    lines = [line for line in invoke(command, *arguments, status=1).splitlines() if line]
    *first, last = shown = lines[-1 - len(before) :]
    assert shown[0].startswith("Error: "), lines
    assert [line.removeprefix("Error: ") for line in first] == list(before)
    return last.removeprefix("Error: ")
