"""How the packages lie to each other: the library below the pipeline, the pipeline below the experiments."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.project import ROOT


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """What a file imports of this project, as the parts of each module's name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (tuple(name.split(".")) for name in names)


def packages_that(folder: Path, package: str) -> set[str]:
    """The packages inside `package` that the files of a folder import from."""
    return {
        parts[1]
        for path in folder.rglob("*.py")
        for parts in imported(path)
        if parts[0] == package and (ROOT / package / parts[1]).is_dir()
    }


@pytest.mark.parametrize(
    ("package", "others"), [("secateurs", {"stages", "lab", "tests"}), ("stages", {"lab", "tests"})]
)
def test_nothing_imports_from_a_package_above_its_own(package: str, others: set[str]) -> None:
    upward = {
        f"{path.relative_to(ROOT)}: {'.'.join(parts)}"
        for path in (ROOT / package).rglob("*.py")
        for parts in imported(path)
        if parts[0] in others
    }
    assert upward == set()


@pytest.mark.parametrize("package", ["secateurs", "stages", "lab"])
def test_packages_import_each_other_in_one_direction(package: str) -> None:
    folders = [folder for folder in (ROOT / package).iterdir() if (folder / "__init__.py").is_file()]
    imports = {folder.name: packages_that(folder, package) - {folder.name} for folder in folders}
    order = list(TopologicalSorter(imports).static_order())
    assert len(order) == len(folders) > 1


def test_the_library_knows_neither_dvc_nor_the_files_of_the_pipeline() -> None:
    libraries = {"dvc", "yaml", "ruamel"}
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "secateurs").rglob("*.py")
        if libraries & {parts[0] for parts in imported(path)}
    }
    assert found == set()


def test_a_name_recurs_only_where_a_stage_is_beside_its_part_of_the_library() -> None:
    named: dict[str, list[str]] = {}
    for package in ("secateurs", "stages", "lab"):
        for path in (ROOT / package).rglob("[!_]*.py"):
            named.setdefault(path.name, []).append(str(path.relative_to(ROOT).parent))
    twice = {name: sorted(folders) for name, folders in named.items() if len(folders) > 1}
    stage_and_part = {
        name: folders
        for name, folders in twice.items()
        if len(folders) == 2 and folders[0].startswith("secateurs/") and folders[1] == "stages"
    }
    assert twice == stage_and_part


def test_no_function_of_the_library_takes_more_than_seven_parameters() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in (ROOT / "secateurs").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and parameters(node.args) > 7
    }
    assert found == set()


def parameters(of: ast.arguments) -> int:
    """How many parameters a caller may give; a method's own object is none."""
    names = [one.arg for one in (*of.posonlyargs, *of.args, *of.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))
