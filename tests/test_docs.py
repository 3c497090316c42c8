"""What the pages of docs/ say of readers, tasks, settings and messages, against the code."""

import ast
import re
from dataclasses import fields
from typing import get_args

import pytest
from pydantic import BaseModel

from secateurs.evaluation.local_tasks import TASKS
from secateurs.pruner import Pruned
from secateurs.settings import sources as params
from secateurs.settings.method import Settings
from tests.pages import TEXTS, rows
from tests.project import MODULES

OWN_TEXT, API, TROUBLE = (
    TEXTS[f"docs/{name}.md"] for name in ("your-model-and-text", "python", "troubleshooting")
)


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def keys(part: str) -> dict[str, set[str]]:
    """The table of sources in a part of a page: the keys of each."""
    return {named(row[0])[0]: set(named(row[1])) for row in rows(part, "`source`")}


def fields_of(*groups: type[BaseModel]) -> dict[str, set[str]]:
    """The same of the types of params.yaml."""
    return {
        get_args(group.model_fields["source"].annotation)[0]: set(group.model_fields) - {"source"}
        for group in groups
    }


def test_every_reader_and_its_options_are_in_the_table() -> None:
    shown = {named(row[0])[0]: set(named(row[2])) for row in rows(OWN_TEXT, "`format`")}
    there: dict[str, set[str]] = {}
    for reader in (params.PlainReader, params.FieldReader):
        options = set(reader.model_fields) - {"format"}
        there |= dict.fromkeys(get_args(reader.model_fields["format"].annotation), options)
    assert shown == there


def test_every_source_of_text_and_its_keys_are_in_the_table() -> None:
    there = fields_of(params.PathDomain, params.HubDomain, params.PackageDomain)
    assert keys(OWN_TEXT.split("\n## The text\n")[1].split("## Readers")[0]) == there


def test_every_source_of_items_and_its_keys_are_in_the_table() -> None:
    there = fields_of(params.StockBenchmark, params.PathBenchmark, params.PackageBenchmark)
    assert keys(OWN_TEXT.split("## Benchmarks")[1]) == there


def test_every_source_of_models_and_its_keys_are_in_the_table() -> None:
    there = fields_of(params.HubModel, params.PathModel, params.PackageModel)
    shown = keys(OWN_TEXT.split("\n## The text\n")[0])
    assert shown == {source: names - {"name", "licence"} for source, names in there.items()}


def test_every_task_with_items_of_ones_own_is_in_the_table() -> None:
    table = rows(OWN_TEXT, "task with items of your own")
    assert sorted(task for row in table for task in named(row[0])) == sorted(TASKS)


@pytest.mark.parametrize(("head", "kind"), [("field", Pruned), ("field", Settings)])
def test_every_field_of_the_python_interface_is_in_its_table(head: str, kind: type) -> None:
    part = API.split("## Settings")[kind is Settings]
    shown = {name for row in rows(part, head) for name in named(row[0]) if "." not in name}
    there = {field.name for field in fields(kind)} if kind is Pruned else set(Settings.model_fields)
    assert there == {name for name in shown if name[0].islower()}


def strings() -> list[str]:
    """The strings of the code, docstrings left out, an expression inside one being `…`."""
    found = []
    for file in MODULES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
                    )
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
                found.append(node.value)
    return found


def messages() -> list[str]:
    tables = re.findall(r"^\| (`.+?) \| ", TROUBLE.split("## Other systems")[0], flags=re.MULTILINE)
    # A stage puts the file's name before the key that an error of the library begins with.
    return [message.strip().removeprefix("params.yaml: ") for cell in tables for message in named(cell)]


def test_there_are_messages() -> None:
    assert len(messages()) > 40


CODE = strings()


@pytest.mark.parametrize("message", messages())
def test_a_message_in_troubleshooting_is_one_of_the_code(message: str) -> None:
    pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), flags=re.DOTALL)
    assert any(pattern.search(text) for text in CODE)
