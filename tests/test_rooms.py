"""How the packages of stages/ lie to each other."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from tests.project import ROOT


def packages_that(path: Path) -> set[str]:
    """The packages of stages/ that a file imports from."""
    modules = [
        node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
    ]
    return {
        parts[1] for module in modules if module and (parts := module.split("."))[0] == "stages" and parts[1:]
    }


def test_packages_import_each_other_in_one_direction() -> None:
    folders = [folder for folder in (ROOT / "stages").iterdir() if (folder / "__init__.py").is_file()]
    imports = {
        folder.name: {
            name for path in folder.rglob("*.py") for name in packages_that(path) if name != folder.name
        }
        for folder in folders
    }
    order = list(TopologicalSorter(imports).static_order())
    assert order[0] == "common"
    assert {"text", "method", "evaluation", "experiments"} <= set(order)
