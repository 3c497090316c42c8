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
