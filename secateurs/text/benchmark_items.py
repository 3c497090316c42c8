"""The items of a zero-shot task as JSON lines, wherever params.yaml says that they come from."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secateurs.archives.members import read_members
from secateurs.errors import InputError, SettingError
from secateurs.files.local_files import located
from secateurs.files.streams import json_lines, whole
from secateurs.settings.sources import Benchmark, PackageBenchmark, PathBenchmark
from secateurs.text.stock_tasks import stock_problems, task_manager
from secateurs.text.task_items import adapt, check_task

# A standard error needs two items.
FEWEST = 2


def read_items(task: str, benchmark: Benchmark) -> bytes:
    """JSON lines, one object an item; files are given back as they are, those of gzip unpacked.

    Raises SettingError where there are fewer than two items, and where one is not what the task reads.
    """
    key = f"benchmarks.{task}"
    if isinstance(benchmark, PackageBenchmark):
        check_task(task)
        members = read_members(benchmark, key)
        if len(members) != 1:
            raise SettingError(f"{key}.member: matches {len(members)} files; name one")
        name, data = members.popitem()
        return _checked(task, f"{key}.member: {name}", data)
    if isinstance(benchmark, PathBenchmark):
        return read_local_items(task, benchmark)
    data = _stock(task, key)
    with _naming_a_setting():
        parse_items(f"{key}: {task}", data)
    return data


def read_local_items(task: str, benchmark: PathBenchmark) -> bytes:
    """The items of a local file. Raises InputError as read_items does."""
    check_task(task)
    key = f"benchmarks.{task}.path"
    return _checked(task, f"{key}: {benchmark.path}", located(benchmark.path, key))


def _checked(task: str, name: str, content: bytes | Path) -> bytes:
    with _naming_a_setting():
        data = whole(name, content)
        adapted_items(task, name, data)
    return data


@contextmanager
def _naming_a_setting() -> Iterator[None]:
    """Errors of files whose `name` is a setting's key are errors of that setting."""
    try:
        yield
    except InputError as error:
        raise SettingError(str(error)) from None


def adapted_items(task: str, name: str, data: bytes) -> list[dict[str, Any]]:
    """The items of a file as the stock task reads them; InputError naming file and line for any other."""
    return [adapt(task, where, item) for where, item in parse_items(name, data)]


def parse_items(name: str, data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The objects of JSON lines, each with its `name:line`; blank lines, and a mark at the start, are left.

    Raises InputError naming file and line at anything else, and where there are fewer than two.
    """
    items = []
    for where, item in json_lines({name: data}):
        if not isinstance(item, dict):
            raise InputError(f"{where}: a {type(item).__name__}; an item is a JSON object")
        try:
            json.dumps(item, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(f"{where}: holds half an emoji (a lone surrogate); correct its text") from None
        items.append((where, item))
    if len(items) < FEWEST:
        raise InputError(f"{name}: {len(items)} items; a standard error needs at least {FEWEST}")
    return items


def _stock(task: str, key: str) -> bytes:
    """What lm-eval scores the task on (all tasks of a group), fetched by it from where the task says."""
    for problem in stock_problems(task):
        raise SettingError(f"{key}: {problem}")
    try:
        tasks = task_manager().load(task)["tasks"].values()
        documents = [document for item in tasks for document in item.eval_docs]
    except Exception as error:  # a task may run any code of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SettingError(f"{key}: lm-eval cannot load it: {reason}") from None
    rows = [json.dumps(document, ensure_ascii=False, sort_keys=True, default=str) for document in documents]
    return "".join(f"{row}\n" for row in rows).encode()
