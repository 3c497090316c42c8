"""The README against the project: its commands run, its params are valid, its links lead somewhere."""

import ast
import csv
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from stages.baselines import main as baselines
from stages.common.params import Params, read_params
from stages.evaluation.sections import headline_rows
from stages.experiments.study.grid import grid
from tests.project import ROOT, read_yaml
from tests.test_rerun import EXPERIMENTS, QUEUES

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
BASELINE_COLUMNS = (
    "method", "version", "decoder removed", "perplexity / dense", "zero-shot", "seconds to prune", "peak GiB",
    "loads in transformers",
)  # fmt: skip
RERUN = "tests/test_rerun.py"
# Where each command of the README runs: a test, or the script of CI.
RUN_BY = {
    "make repro": ".ci/run",
    "make test": ".ci/run",
    ". .venv/bin/activate": ".ci/run",
    "python -m stages.chat data/pruned": "tests/test_chat.py::test_the_readmes_way_to_talk",
    'echo "Why is the sky blue?" | python -m stages.chat data/pruned --temperature 0': (
        "tests/test_chat.py::test_the_readmes_way_to_talk"
    ),
    "hf upload you/your-model data/pruned": "tests/test_readme.py::test_the_hub_tool_takes_id_and_folder",
    "python -m stages.plan": "tests/test_plan.py::test_a_bad_file_ends_with_one_message_and_status_1",
    "python -m stages.plan --rounds 6 --curve cubic": "tests/test_plan.py::test_rewritten_rounds_are_valid",
    "dvc repro": ".ci/run",
    "dvc repro stages/exporting/dvc.yaml": f"{RERUN}::test_the_export_runs_only_when_it_is_asked_for",
    "make export": "tests/test_export.py::test_make_export_runs_its_own_pipeline",
    "make recover": "tests/test_readme.py::test_make_recover_runs_its_own_pipeline",
    "dvc repro stages/recovering/dvc.yaml": f"{RERUN}::test_the_recovery_runs_only_when_it_is_asked_for",
    "make portability": ".github/workflows/portability.yml",
    "make baselines": "tests/test_readme.py::test_make_baselines_passes_its_options_on",
    'make baselines BASELINES="--table left-out --jobs 4"': (
        "tests/experiments/baselines/test_left_out.py::test_each_domain_is_scored_after_a_pruning_without_its_text"
    ),
    'make baselines BASELINES="--table all-items --jobs 4"': (
        "tests/experiments/baselines/test_all_items.py::test_every_item_is_scored_whatever_the_limit_of_the_evaluation"
    ),
    'make baselines BASELINES="--baseline wanda-sp --share 0.3"': (
        "tests/test_readme.py::test_make_baselines_passes_its_options_on"
    ),
    "dvc repro --force --single-item sources@tickets": f"{RERUN}::test_a_changed_file_is_read_when_told_to",
    "dvc exp apply smaller": "tests/test_sweep.py::test_an_experiment_can_be_applied",
    "make help": "tests/test_readme.py::test_the_targets_it_names_are_in_make_help",
    "make sweep": "tests/test_readme.py::test_make_sweep_passes_its_settings_on",
    'make sweep SWEEP="-S mask.metric=fisher,wanda" BY=mask.metric': (
        "tests/test_readme.py::test_make_sweep_passes_its_settings_on"
    ),
    "make bench SUITE=cpu": "tests/bench/test_bench.py::test_rows_are_kept_beside_those_measured_before",
    "python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.bench parallel --only 7B": (
        "tests/bench/test_bench.py::test_two_processes_side_by_side_do_the_work_of_one"
    ),
    "dvc exp run --run-all": (
        "tests/test_rerun.py::test_a_study_comes_out_alike_through_dvc_and_in_one_process"
    ),
    "dvc exp run --run-all --jobs 2": "tests/test_rerun.py::test_a_sweep_ends_in_a_table_and_a_figure",
    "python -m stages.sweep --by mask.metric": (
        "tests/test_sweep.py::test_the_table_and_the_figure_lie_side_by_side"
    ),
    "dvc exp show --only-changed --drop '^data/|^stages|Created|State|Executor'": (
        "tests/test_sweep.py::test_dvc_lists_the_experiments_readably"
    ),
    "make study": "tests/test_readme.py::test_make_study_runs_what_the_readme_shows",
    **dict.fromkeys(
        [f"python -m stages.study {command}" for command in ("plan", "queue", "collect")],
        "tests/experiments/study/test_experiments.py::test_a_study_is_queued_run_once_and_collected",
    ),
    "python -m stages.study queue --axis metric": (
        "tests/experiments/study/test_grid.py::test_an_axis_alone_keeps_the_names_of_what_it_shares"
    ),
    "dvc repro corpus": f"{RERUN}::test_a_changed_file_is_read_when_told_to",
    **dict.fromkeys(
        [f"python -m stages.study {command} --grid large" for command in ("run", "page")],
        "tests/experiments/study/test_in_process.py::test_a_run_goes_on_where_it_stopped_and_ends_in_a_page",
    ),
    "python -m stages.report --compare main": (
        "tests/test_review.py::test_changed_params_stand_beside_each_other"
    ),
    "dvc metrics diff --md main": "tests/test_review.py::test_dvcs_own_diff_agrees",
    **dict.fromkeys(
        EXPERIMENTS, "tests/test_rerun.py::test_an_experiment_of_the_readme_runs_what_it_changes"
    ),
    **dict.fromkeys(
        QUEUES, "tests/test_rerun.py::test_a_queue_of_the_readme_has_an_experiment_for_each_combination"
    ),
}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """The lines of the README's shell blocks, without comments, and the commands within its sentences."""
    lines = [line.split(" #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`((?:dvc|make|python|hf|pre-commit) [^`|]+)`", re.sub(r"\s*\n", " ", prose))
    shortened = {"dvc exp run", "dvc ..."}
    return [line for line in [*lines, *inline] if line and not line.startswith("#") and line not in shortened]


def recipes() -> list[str]:
    return re.findall(r"^\| [^|]+ \| `(-S [^|]+)` \|$", README, flags=re.MULTILINE)


def test_every_command_is_run_by_a_test_or_by_ci() -> None:
    assert sorted(set(commands())) == sorted(RUN_BY)


@pytest.mark.parametrize("where", sorted(set(RUN_BY.values())))
def test_what_runs_a_command_is_there(where: str) -> None:
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
    shown = subprocess.run([tool, "upload", "--help"], capture_output=True, text=True, check=True).stdout
    assert "repo-id" in shown.lower().replace("_", "-")
    assert "local-path" in shown.lower().replace("_", "-")


def test_the_targets_it_names_are_in_make_help() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert {"repro", "test", "sweep", "help"} <= named
    assert named <= {line.split()[0] for line in shown.splitlines()}


def test_make_sweep_passes_its_settings_on() -> None:
    form = re.search(r"`(make sweep SWEEP=.+?)`", README.replace("\n", " "))
    assert form
    shown = subprocess.run(
        [*shlex.split(form[1]), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "dvc exp run --queue -S mask.metric=fisher,wanda\n" in shown
    assert "python -m stages.sweep --by mask.metric" in shown


def test_make_recover_runs_its_own_pipeline() -> None:
    shown = subprocess.run(
        ["make", "recover", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "python -m stages.enable recovering\ndvc repro stages/recovering/dvc.yaml\n" in shown
    assert (ROOT / "stages/recovering/pipeline.yaml").exists()


def test_make_study_runs_what_the_readme_shows() -> None:
    shown = subprocess.run(
        ["make", "study", "JOBS=2", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    lines = [line.removesuffix(" --grid small") for line in shown.splitlines()]
    block = next(block for block in blocks("sh") if "stages.study queue" in block)
    named = [line.split("#")[0].strip() for line in block.splitlines()]
    assert [line for line in lines if line in named] == named[1:]
    params = read_yaml()
    assert f"The small grid is {len(grid('small', params).experiments())} experiments" in README


def test_make_baselines_passes_its_options_on() -> None:
    forms = [line for line in commands() if line.startswith("make baselines BASELINES")]
    assert len(forms) == 3
    for form in forms:
        shown = subprocess.run(
            [*shlex.split(form), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        (options,) = shlex.split(form.partition("BASELINES=")[2])
        assert f"python -m stages.baselines --python .baselines/bin/python {options}\n" in shown
        # What it passes on, the command takes.
        baselines.make_context("baselines", ["--python", "x", *options.split()])


def test_the_params_of_the_readme_are_valid() -> None:
    (block,) = blocks("yaml")
    data = read_yaml()
    Params.model_validate(data | YAML(typ="safe").load(block))


@pytest.mark.parametrize("recipe", recipes())
def test_a_recipe_is_valid(recipe: str, tmp_path: Path) -> None:
    params = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    before = read_params(params)
    settings = [part for part in shlex.split(recipe) if part != "-S"]
    apply_overrides(params, settings)
    assert read_params(params) != before


def test_there_are_recipes() -> None:
    assert len(recipes()) == README.split("## Recipes")[1].split("## ")[0].count("| `-S")


def test_the_table_of_the_default_run_is_that_of_the_metrics() -> None:
    metrics = json.loads((ROOT / "data/metrics.json").read_text(encoding="utf-8"))
    rows = {row[0]: f"{row[0]:<28}{row[1]:>18}{row[2]:>18}{row[3]:>9}" for row in headline_rows(metrics)}
    # Times are those of the machine that the README names; another run's may be committed.
    exact = [row for name, row in rows.items() if "ms" not in name]
    assert len(exact) == 6
    assert [row for row in exact if row not in README.splitlines()] == []


def test_the_table_of_other_methods_is_that_of_data_baselines() -> None:
    with (ROOT / "data/baselines/baselines.csv").open(encoding="utf-8") as file:
        rows = [
            f"| {' | '.join(row[column] for column in BASELINE_COLUMNS)} |" for row in csv.DictReader(file)
        ]
    assert rows
    assert [row for row in rows if row not in README.splitlines()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_or_a_heading(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", text)
    for link in links:
        assert link.removeprefix("#") in headings if link.startswith("#") else (ROOT / link).exists(), link
    assert links or page == "CHANGELOG.md"
