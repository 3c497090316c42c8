"""The items of a zero-shot task as JSON lines, wherever params.yaml says that they come from."""

import json
from pathlib import Path
from typing import Any

from stages.common.errors import InputError
from stages.common.params import PARAMS_FILE, Benchmark, PackageBenchmark, PathBenchmark
from stages.text.packages import read_members
from stages.text.readers import decode


def read_items(task: str, benchmark: Benchmark) -> bytes:
    """JSON lines, one object an item; files are given back byte for byte. InputError when there is none."""
    key = f"benchmarks.{task}"
    if isinstance(benchmark, PackageBenchmark):
        members = read_members(benchmark, key)
        if len(members) != 1:
            raise InputError(f"{PARAMS_FILE}: {key}.member: matches {len(members)} files; name one")
        name, data = members.popitem()
    elif isinstance(benchmark, PathBenchmark):
        name = benchmark.path
        try:
            data = Path(name).expanduser().read_bytes()
        except OSError as error:
            raise InputError(f"{PARAMS_FILE}: {key}.path: {name}: cannot be read: {error.strerror}") from None
    else:
        name, data = task, _stock(task, key)
    if not parse_items(name, data):
        raise InputError(f"{PARAMS_FILE}: {key}: {name} has no items")
    return data


def parse_items(name: str, data: bytes) -> list[dict[str, Any]]:
    """The objects of JSON lines; InputError naming file and line at anything else."""
    items = []
    for number, line in enumerate(decode(name, data).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InputError(f"{name}:{number}: not valid JSON: {error}") from None
        if not isinstance(item, dict):
            raise InputError(f"{name}:{number}: a {type(item).__name__}; an item is a JSON object")
        items.append(item)
    return items


def _stock(task: str, key: str) -> bytes:
    """What lm-eval scores the task on (all tasks of a group), fetched by it from where the task says."""
    # lm-eval takes seconds to import, and the bundled items do without it.
    from lm_eval.tasks import TaskManager

    try:
        tasks = TaskManager().load(task)["tasks"].values()
        documents = [document for item in tasks for document in item.eval_docs]
    except Exception as error:  # a task may run any code of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{PARAMS_FILE}: {key}: lm-eval cannot load it: {reason}") from None
    lines = [json.dumps(document, ensure_ascii=False, sort_keys=True, default=str) for document in documents]
    return "".join(f"{line}\n" for line in lines).encode()
