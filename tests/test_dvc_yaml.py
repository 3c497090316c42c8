"""dvc.yaml against the code: an imported module that is no dependency would give silently stale results."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from secateurs.errors import InputError
from secateurs.settings import base
from stages.deps import main as deps
from stages.params import file as params
from stages.params.across import OVERLOOKED
from stages.planning.dependencies import (
    CANNOT_CHANGE_A_RESULT,
    CODE,
    TEMPLATES,
    closure,
    code_of,
    imports,
    stage_file,
    with_code,
)
from tests.project import MODULES, ROOT, change, invoke, invoke_all, read_yaml


@cache
def stages_of_dvc_yaml() -> dict[str, dict[str, Any]]:
    """By DVC's names for them, those of an optional pipeline with its path before them and its code added."""
    found = {}
    for file in (ROOT / "dvc.yaml", *ROOT.glob(TEMPLATES)):
        text, prefix = file.read_text(encoding="utf-8"), ""
        if file.parent != ROOT:
            text, prefix = with_code(text, ROOT), f"{file.relative_to(ROOT).as_posix()}:"
        for name, stage in YAML(typ="safe").load(text)["stages"].items():
            found[f"{prefix}{name}"] = stage.get("do", stage)
    return found


@pytest.mark.parametrize("name", stages_of_dvc_yaml())
def test_a_stage_depends_on_every_module_that_it_imports(name: str) -> None:
    stage = stages_of_dvc_yaml()[name]
    listed = [dep for dep in stage["deps"] if dep.startswith(CODE)]
    assert listed == code_of(stage_file(name, stage), ROOT), "run `make deps`"


@pytest.mark.parametrize("name", ["sources", "report"])
def test_the_import_closure_holds_every_module_that_python_really_loads(name: str) -> None:
    # Python itself is the independent reference: what it has loaded after the import.
    ours = "m.startswith(('secateurs.', 'stages.'))"
    code = f"import stages.{name}, sys; print(*(m for m in sys.modules if {ours}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    files = {f"{module.replace('.', '/')}.py" for module in loaded}
    assert {file for file in files if (ROOT / file).exists()} <= closure(f"stages/{name}.py", ROOT)


def project(tmp_path: Path, dvc_yaml: str) -> Path:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/first.py").write_text('from stages.second import x\nPAGE = "page.j2"\n')
    (tmp_path / "stages/second.py").write_text("import stages.third\n")
    (tmp_path / "stages/third.py").write_text("")
    (tmp_path / "stages/page.j2").write_text("")
    (tmp_path / "dvc.yaml").write_text(dvc_yaml)
    return tmp_path


STALE = """\
# the pipeline
stages:
  first:
    cmd: python -m stages.first
    deps:
      - stages/gone.py
      - data/model  # what it reads
    outs: [data/out]
"""
FRESH = """\
# the pipeline
stages:
  first:
    cmd: python -m stages.first
    deps:
      - stages/first.py
      - stages/page.j2
      - stages/second.py
      - stages/third.py
      - data/model  # what it reads
    outs: [data/out]
"""


def test_code_is_written_and_comments_and_other_dependencies_stay(tmp_path: Path) -> None:
    root = project(tmp_path, STALE)
    written = with_code(STALE, root)
    assert YAML(typ="safe").load(written) == YAML(typ="safe").load(FRESH)
    assert "# the pipeline" in written
    assert "# what it reads" in written


def test_what_is_up_to_date_stays_as_it_is(tmp_path: Path) -> None:
    assert with_code(FRESH, project(tmp_path, FRESH)) == FRESH


def test_a_command_without_a_module_of_the_project_is_refused_by_name(tmp_path: Path) -> None:
    text = STALE.replace("python -m stages.first", "echo")
    with pytest.raises(InputError, match=r"dvc\.yaml: stages\.first\.cmd: echo"):
        with_code(text, project(tmp_path, text))


def test_check_fails_where_a_file_would_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path, STALE))
    message = "dvc.yaml: code dependencies are stale; run `make deps`"
    assert message in invoke(deps, "--check", status=1)
    invoke_all((deps,), (deps, "--check"))


def test_what_is_left_out_as_unable_to_change_a_result_exists() -> None:
    assert all((ROOT / path).exists() for path in CANNOT_CHANGE_A_RESULT)


@pytest.mark.parametrize("name", ["sample", "perplexity", "tasks", "cost"])
def test_a_new_model_family_runs_nothing_again_that_does_not_read_the_table(name: str) -> None:
    assert "secateurs/families/discover.py" not in stages_of_dvc_yaml()[name]["deps"]


def test_every_template_of_the_package_is_a_dependency_of_a_stage() -> None:
    files = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "stages").rglob("*")
        if file.is_file() and file.suffix not in {".py", ".pyc", ".yaml", ".lock"}
    }
    assert files
    assert files <= {dep for stage in stages_of_dvc_yaml().values() for dep in stage["deps"]}


def test_package_init_files_are_empty_but_the_librarys_and_those_of_programs() -> None:
    written = {file.parent.name for file in MODULES if file.name == "__init__.py" and file.stat().st_size}
    # Of programs they say how an interruption ends, while the rest is still imported.
    assert written == {"secateurs", "stages", "lab"}


def test_a_file_directly_in_stages_runs_and_says_whether_it_is_a_stage_or_a_tool() -> None:
    for file in (ROOT / "stages").glob("*.py"):
        if file.name != "__init__.py":
            text = file.read_text(encoding="utf-8")
            assert text.startswith(('"""Stage: ', '"""Tool: ')), file.name
            assert 'if __name__ == "__main__":' in text, file.name


def test_no_import_leads_back_to_where_it_began() -> None:
    files = [file.relative_to(ROOT).as_posix() for file in MODULES]
    TopologicalSorter({file: imports(file, ROOT) for file in files}).prepare()  # raises CycleError


def test_no_file_has_more_than_250_lines() -> None:
    for file in MODULES:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 250, file


def test_nothing_imports_a_file_that_is_run() -> None:
    runnable = {file.stem for file in (ROOT / "stages").glob("*.py")} - {"__init__"}
    for file in MODULES:
        name = file.relative_to(ROOT).as_posix()
        # Each file's own imports: a file reached by a longer way is imported by the last one on it.
        imported = imports(name, ROOT) - {name}
        assert not imported & {f"stages/{stem}.py" for stem in runnable}, name


def keys_with_defaults(group: type[base.Group], at: str = "") -> Iterator[str]:
    """The keys that the library does without, below a group of params.yaml."""
    for name, field in group.model_fields.items():
        kind = field.annotation
        if not field.is_required() and field.get_default(call_default_factory=True) is not None:
            yield f"{at}{name}"
        if isinstance(kind, type) and issubclass(kind, base.Group):
            yield from keys_with_defaults(kind, f"{at}{name}.")


@pytest.mark.parametrize("key", keys_with_defaults(params.Params))
def test_params_gives_every_key_although_the_library_has_defaults(key: str) -> None:
    data = change(read_yaml(), {key: ...})
    with pytest.raises(InputError, match=rf"^params.yaml: {key}: missing$"):
        params.check_params(data, Path("params.yaml"))


def keys_of(value: Any) -> set[str]:
    """The keys of nested mappings, at any depth."""
    if not isinstance(value, dict):
        return set()
    return {*value, *(key for one in value.values() for key in keys_of(one))}


def test_no_setting_has_a_name_whose_changes_dvc_overlooks() -> None:
    assert not keys_of(read_yaml()) & {*OVERLOOKED}


def test_every_group_of_params_is_tracked_by_a_stage() -> None:
    tracked = {
        str(entry).split(".")[0]
        for stage in stages_of_dvc_yaml().values()
        for entry in stage.get("params", [])
    }
    assert tracked >= set(params.Params.model_fields) - {"rounds", "domains"}
