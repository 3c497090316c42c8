"""The code that a stage of dvc.yaml depends on: what it imports and can change its result."""

import ast
import re
from collections.abc import Mapping
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from secateurs.errors import InputError

# The rule for what is left out: these files and folders say how a setting is checked, how an error is worded,
# what a terminal shows, which inputs are refused, and who waits for whom. None of them holds a value or
# computes one, so none can change what a stage writes, and neither can what only they import.
CANNOT_CHANGE_A_RESULT = (
    "secateurs/checkpoints/folder.py",
    "secateurs/errors.py",
    "secateurs/progress.py",
    "secateurs/settings/base.py",
    "secateurs/settings/groups.py",
    "secateurs/settings/problems.py",
    "secateurs/settings/pruning.py",
    "secateurs/settings/recovery.py",
    "secateurs/settings/sources.py",
    "stages/common/console.py",
    "stages/common/locks.py",
    "stages/common/stopwatch.py",
    "stages/params/across.py",
    "stages/params/file.py",
    "stages/params/rounds.py",
    "stages/params/yaml_file.py",
    "stages/planning/early_checks.py",
)
# The packages whose modules a stage may import; nothing in them imports lab/.
PACKAGES = ("secateurs", "stages")
CODE = tuple(f"{package}/" for package in PACKAGES)


# What `python -m stages.enable` makes a dvc.yaml of, with the code that the stages import. DVC looks for
# files of that name everywhere, and lists outputs that nobody asked for as missing.
TEMPLATES = "stages/*/pipeline.yaml"


def with_code(text: str, root: Path) -> str:
    """The text of a dvc.yaml with the code of each stage's `deps` as the imports have it now.

    Paths below PACKAGES are replaced, sorted, and come first; other dependencies, comments and order stay.
    Raises InputError for a stage whose command runs no module of this project.
    """
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    data: Any = yaml.load(text)
    for name, entry in data["stages"].items():
        stage = entry.get("do", entry)
        code = code_of(stage_file(name, stage), root)
        _replace(stage["deps"], code)
    written = StringIO()
    yaml.dump(data, written)
    return written.getvalue()


def _replace(deps: Any, code: list[str]) -> None:
    # Item by item, because a comment belongs to a position in the list, and moves only when items do.
    for position in reversed([n for n, path in enumerate(deps) if path.startswith(CODE)]):
        del deps[position]
    for position, path in enumerate(code):
        deps.insert(position, path)


def stage_file(name: str, stage: Mapping[str, Any]) -> str:
    """The file that a stage's command runs, relative to the project's root."""
    module = re.search(r"-m stages\.(\w+)", stage["cmd"])
    if module is None:
        raise InputError(f"dvc.yaml: stages.{name}.cmd: {stage['cmd']}: runs no module `stages.NAME`")
    return f"stages/{module[1]}.py"


def code_of(file: str, root: Path) -> list[str]:
    """What running `file` reads of the project's code, sorted: modules, and the templates that they name."""
    modules = closure(file, root, CANNOT_CHANGE_A_RESULT)
    templates = {template for module in modules for template in _named_files(module, root)}
    return sorted(file for file in modules | templates if not file.startswith(CANNOT_CHANGE_A_RESULT))


def closure(file: str, root: Path, ends: tuple[str, ...] = ()) -> set[str]:
    """The project's modules that importing `file` imports, itself included, as paths below `root`.

    ends: files and folders whose own imports are left out.
    """
    seen: set[str] = set()
    waiting = {file}
    while waiting:
        seen |= waiting
        reached = (one for one in waiting if not one.startswith(ends))
        waiting = set().union(*(imports(one, root) for one in reached)) - seen
    return seen


def imports(file: str, root: Path) -> set[str]:
    """The project's modules that `file` itself imports, as paths below `root`."""
    names = _imported_names((root / file).read_text(encoding="utf-8"))
    files = {
        f"{name.replace('.', '/')}.py"
        for name in names
        if name.startswith(tuple(f"{package}." for package in PACKAGES))
    }
    return {one for one in files if (root / one).exists()}


# By the text itself, which cannot go stale: each stage asks for much of what the others asked for.
@cache
def _imported_names(code: str) -> frozenset[str]:
    """What a module's import statements may name: modules, and what is imported from them."""
    names: list[str] = []
    nodes = list(ast.walk(ast.parse(code)))
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            # A name that is made at run time, of a package and one of the module's own strings.
            (package, *_) = getattr(node.args[0], "values", [node.args[0]])
            strings = (one.value for one in nodes if isinstance(one, ast.Constant))
            names += [f"{ast.literal_eval(package)}{value}" for value in strings if isinstance(value, str)]
    return frozenset(names)


def _named_files(module: str, root: Path) -> set[str]:
    """Files in a module's folder that are not code and that a string in the module names."""
    folder = (root / module).parent
    names = _file_names((root / module).read_text(encoding="utf-8"))
    return {(folder / name).relative_to(root).as_posix() for name in names if (folder / name).is_file()}


@cache
def _file_names(code: str) -> frozenset[str]:
    """The strings of a module that look like the names of files that are not code."""
    return frozenset(
        node.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[\w.-]+\.\w+", node.value)
        and not node.value.endswith((".py", ".yaml"))
    )
