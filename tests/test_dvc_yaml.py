"""dvc.yaml against the code: an imported module that is no dependency would give silently stale results."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from stages import params

ROOT = Path(__file__).parent.parent
# Holds types and checks only (see test_params_has_no_defaults), so it cannot change a result.
NOT_A_DEPENDENCY = {"stages/params.py"}


def stages_of_dvc_yaml() -> dict[str, dict[str, Any]]:
    """By DVC's names for them: those of other files than the first have the file's path before them."""
    found = {}
    for file in (ROOT / "dvc.yaml", *sorted(ROOT.glob("stages/*/dvc.yaml"))):
        prefix = "" if file.parent == ROOT else f"{file.relative_to(ROOT).as_posix()}:"
        for name, stage in YAML(typ="safe").load(file.read_text(encoding="utf-8"))["stages"].items():
            found[f"{prefix}{name}"] = stage.get("do", stage)
    return found


def module_file(name: str) -> str | None:
    """`stages.a.b` -> its file below the root, if it is one of the project's modules."""
    path = Path(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (ROOT / candidate).exists():
            return candidate.as_posix()
    return None


def imports(file: str) -> set[str]:
    """The project's files that a file imports, wherever in it the import stands."""
    names = []
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    found = {module_file(name) for name in names if name.split(".")[0] == "stages"}
    return {file for file in found if file and not file.endswith("__init__.py")}


def closure(file: str) -> set[str]:
    """All project files that running a file imports, itself included."""
    seen: set[str] = set()
    waiting = {file}
    while waiting:
        seen |= waiting
        waiting = set().union(*map(imports, waiting)) - seen
    return seen


@pytest.mark.parametrize("name", stages_of_dvc_yaml())
def test_a_stage_depends_on_every_module_that_it_imports(name: str) -> None:
    stage = stages_of_dvc_yaml()[name]
    module = re.search(r"-m (stages\.\w+)", stage["cmd"])
    assert module
    main = module_file(module[1])
    assert main
    listed = {dep for dep in stage["deps"] if dep.endswith(".py")}
    assert listed == closure(main) - NOT_A_DEPENDENCY


def test_every_template_of_the_package_is_a_dependency_of_a_stage() -> None:
    files = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "stages").rglob("*")
        if file.is_file() and file.suffix not in {".py", ".pyc", ".yaml", ".lock"}
    }
    assert files
    assert files <= {dep for stage in stages_of_dvc_yaml().values() for dep in stage["deps"]}


def test_package_init_files_are_empty() -> None:
    assert all(file.stat().st_size == 0 for file in (ROOT / "stages").rglob("__init__.py"))


def test_params_has_no_defaults() -> None:
    models = [
        value for value in vars(params).values() if isinstance(value, type) and issubclass(value, BaseModel)
    ]
    assert len(models) > 20
    for model in models:
        for field, info in model.model_fields.items():
            assert info.default is PydanticUndefined, f"{model.__name__}.{field}"
            assert info.default_factory is None, f"{model.__name__}.{field}"


def test_every_group_of_params_is_tracked_by_a_stage() -> None:
    tracked = {
        str(entry).split(".")[0] for stage in stages_of_dvc_yaml().values() for entry in stage["params"]
    }
    assert tracked >= set(params.Params.model_fields) - {"rounds", "domains"}


if __name__ == "__main__":  # prints the lists, for pasting into dvc.yaml
    for name, stage in stages_of_dvc_yaml().items():
        module = re.search(r"-m (stages\.\w+)", stage["cmd"])
        print(name, sorted(closure(str(module_file(module[1]))) - NOT_A_DEPENDENCY))
