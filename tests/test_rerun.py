"""The re-run table and the README's sweeps: real DVC on a tiny random model.

What must run again does, and nothing more; every experiment that the README shows runs as it stands there.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.study.experiment_results import read_results
from tests.project import (
    ENVIRONMENT,
    ROOT,
    change,
    lines_of,
    model_at,
    read_yaml,
    run_make,
    text,
    write_params,
)

pytestmark = pytest.mark.slow
PAGES = ["page"]
REPORTS = ["report", "page", "publish"]
# The modules that a stage's own file imports, in a dvc.yaml. No test here changes one, tests/test_dvc_yaml.py
# knows which they are, and DVC reads and writes all of them in dvc.lock at every stage: seconds each time.
OTHER_CODE = re.compile(r"^ +- (?:secateurs|stages/\w+)/.+\n", re.MULTILINE)


class Project:
    """A copy of the code with its own params, data and cache."""

    def __init__(self, directory: Path, dense: Path) -> None:
        self.directory = directory
        for name in ("secateurs", "stages", "dvc.yaml", ".dvcignore", ".gitignore"):
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, directory / name)
        self.without_code("dvc.yaml")
        for number, name in enumerate(("alpha", "news", "gamma")):
            (directory / f"{name}.txt").write_text(text(number), encoding="utf-8")
        items = [
            f'{{"question": "What is {n} plus {n}?", "choices": ["{2 * n}", "no"], "labels": ["A", "B"], '
            f'"answer": "A"}}'
            for n in range(12)
        ]
        tickets = [json.dumps({"body": line}) for line in text(3).splitlines()]
        (directory / "tickets.jsonl").write_text("\n".join(tickets) + "\n", encoding="utf-8")
        (directory / "items.jsonl").write_text("\n".join(items) + "\n", encoding="utf-8")
        params = read_yaml()
        params["model"] = model_at(dense)
        params["domains"] = {name: lines_of(f"{name}.txt") for name in ("alpha", "news")}
        params["mixture"] = {"alpha": 1.0, "news": 1.0, "self": 1.0, "dialogues": 0.0}
        params["benchmarks"] = {"openbookqa": {"source": "path", "path": "items.jsonl"}}
        params["sample"] |= {"documents": 4, "tokens": 96, "batch_size": 4}
        params["corpus"] |= {"sequence_length": 32, "calibration_sequences": 4, "heldout_sequences": 2}
        params["capture"] |= {"sequences": 2}
        params["surgery"] |= {"sequences": 3, "choice_sequences": 1}
        params["prune"] |= {"width_multiple": 1}
        params["recover"] |= {"steps": 2, "batch_size": 3, "left_out": 1}
        params["recover"]["mixture"] = {"calibration": 0.5, "plain": 0.5, "dialogues": 0.0}
        params["recover"]["own"] |= {"plain": 4, "dialogues": 0, "tokens": 64}
        params["export"] |= {"converter": str(ROOT / ".llama/converter")}
        params["evaluate"] |= {"limit": 4, "prompt_tokens": 8, "decode_tokens": 2, "repeats": 1}
        self.write(params)
        for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
            self.run(command)
        shutil.copytree(ROOT / ".dvc/plots", directory / ".dvc/plots", dirs_exist_ok=True)
        self.before = params

    def write(self, params: dict[str, Any]) -> None:
        write_params(self.directory, params)

    def run(self, command: list[str], errors: bool = False) -> str:
        """What a command prints to stdout, and to stderr where asked for; it must succeed."""
        environment = os.environ | ENVIRONMENT | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        # The project has its own copy of the code.
        del environment["PYTHONPATH"]
        done = subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr * errors

    def repro(self, changes: dict[str, Any], target: str | None = None) -> list[str]:
        """The stages that ran, in order, after `a.b.c: value` changes to the first params."""
        self.write(change(read_yaml(self.directory / "params.yaml"), changes))
        return stages_run(self.run(["dvc", "repro", *([target] if target else [])]))

    def enable(self, name: str) -> str:
        """Switch an optional pipeline on; its file."""
        self.run(["python", "-m", "stages.enable", name])
        return self.without_code(f"stages/{name}/dvc.yaml")

    def without_code(self, file: str) -> str:
        """Drop what a pipeline's stages import from its dependencies; the name of its file."""
        path = self.directory / file
        path.write_text(OTHER_CODE.sub("", path.read_text("utf-8")), "utf-8")
        return file

    def commit(self) -> None:
        self.run(["git", "add", "--all"])
        self.run(["git", "commit", "--quiet", "--allow-empty", "--message", "As it is"])


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(.+)':", output)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, dense_dir: Path, quick_dvc: None) -> Project:
    project = Project(tmp_path_factory.mktemp("project"), dense_dir)
    ran = project.repro({})
    assert len(ran) == 24, ran
    return project


@pytest.fixture(autouse=True)
def _restored(project: Project) -> Iterator[None]:
    """After every change, going back restores all outputs from the cache; only the pages are written anew."""
    yield
    project.write(project.before)
    assert project.repro({}) in ([], PAGES)


def test_nothing_changed_runs_nothing(project: Project) -> None:
    assert project.repro({}) == []


def test_every_stage_that_ran_has_its_times_in_the_table(project: Project) -> None:
    rows = [line.split() for line in project.run(["python", "-m", "stages.stage_seconds"]).splitlines()[1:-1]]
    stages = {stage for stage, *_ in rows}
    assert stages >= {"model", "sources@alpha", "capture@r1", "mask@r1", "surgery", "tasks@pruned", "publish"}
    # Here processes fork from one that is not DVC, so that the time of DVC itself is not known.
    assert all(float(cell) >= 0 for _, _, *cells in rows for cell in cells)


def test_dvcs_own_commands_find_nothing_amiss_after_a_run(project: Project) -> None:
    assert project.run(["dvc", "status"]) == "Data and pipelines are up to date.\n"
    shutil.rmtree(project.directory / "data/pruned")
    assert "data/pruned" in project.run(["dvc", "checkout"])
    assert "failed to load" not in project.run(["dvc", "metrics", "show"], errors=True)
    assert "failed to load" not in project.run(["dvc", "plots", "show"], errors=True)


def test_the_export_runs_only_when_it_is_asked_for(project: Project) -> None:
    file = project.enable("exporting")
    assert project.repro({}, file) == [f"{file}:export"]
    assert (project.directory / "data/export/model.gguf").exists()


def test_the_recovery_runs_only_when_it_is_asked_for(project: Project) -> None:
    data = project.directory / "data"
    others = {name: (data / name).read_bytes() for name in ("metrics.json", "report.md")}
    file = project.enable("recovering")
    names = [
        f"{file}:{stage}"
        for stage in ("own_text", "corpus", "recover", "perplexity", "tasks", "cost", "recovered", "publish")
    ]
    assert sorted(project.repro({}, file)) == sorted(names)
    metrics = json.loads((data / "recovered.json").read_text(encoding="utf-8"))
    assert list(metrics) == ["recovered", "ratio", "pruned", "recovery"]
    assert project.repro({"recover.steps": 3}) == []
    assert sorted(project.repro({}, file)) == sorted(names[1:])
    assert all((data / name).read_bytes() == old for name, old in others.items())


def test_dvc_finds_the_losses_of_a_recovery(project: Project) -> None:
    file = project.enable("recovering")
    project.repro({}, file)
    shown = json.loads(project.run(["dvc", "plots", "show", "--json"]))["data"]
    (drawn,) = shown["data/recovery/loss.tsv"]
    made = json.loads((project.directory / "data/recovered/recovery.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in drawn["content"]["data"]["values"]] == [
        str(step) for step in range(1, made["steps"] + 1)
    ]


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("evaluate.limit", 6, "tasks"),
        ("evaluate.run_generated_code", True, "tasks"),
    ],
)
def test_a_setting_of_a_part_of_the_evaluation_runs_that_part(
    project: Project, key: str, value: Any, part: str
) -> None:
    ran = set(project.repro({key: value}))
    assert ran - set(REPORTS) == {f"{part}@dense", f"{part}@pruned"}


def test_how_times_are_taken_runs_nothing(project: Project) -> None:
    assert project.repro({"evaluate.decode_tokens": 3}) == []


def test_surgery_leaves_the_dense_evaluation(project: Project) -> None:
    ran = project.repro({"surgery.alpha": 0.7})
    assert ran[:2] == ["kinds", "surgery"]
    assert set(ran[2:5]) == {"perplexity@pruned", "tasks@pruned", "cost@pruned"}
    # Where auto takes the other method, no figure changes, and reports have nothing new to say.
    assert {"publish"} <= set(ran[5:]) <= set(REPORTS)


def test_the_progress_of_a_round_leaves_the_rounds_before(project: Project) -> None:
    assert project.repro({"rounds.r2.progress": 0.8}, "mask@r3") == ["mask@r2", "capture@r3", "mask@r3"]


@pytest.mark.parametrize(
    ("key", "value"), [("mask.metric", "wanda"), ("prune.sparsity", 0.25), ("mixture.alpha", 3.0)]
)
def test_scores_and_budgets_leave_the_first_capture(project: Project, key: str, value: Any) -> None:
    ran = project.repro({key: value}, "capture@r2")
    assert ran[:2] == ["kinds", "mask@r1"]
    assert set(ran) <= {"kinds", "mask@r1", "capture@r2"}


@pytest.mark.parametrize(
    ("kind", "units"),
    [("blocks", "decoder blocks"), ("attention_blocks", "attentions"), ("attention", "KV groups")],
)
def test_each_kind_goes_through_the_whole_pipeline_and_is_named(
    project: Project, kind: str, units: str
) -> None:
    project.repro({"prune.sites": [kind], "prune.sparsity": 0.1, "mask.metric": "taylor"})
    report = (project.directory / "data/report.md").read_text(encoding="utf-8")
    assert f"{units} ranked by" in report
    card = (project.directory / "data/published/pruned/README.md").read_text(encoding="utf-8")
    assert f"with whole {units} removed by Secateurs." in card


def test_another_choice_of_tokens_leaves_all_captures(project: Project) -> None:
    ran = project.repro({"prune.vocabulary.leave": ["Han"]}, "surgery")
    assert set(ran) == {"kinds", "vocabulary", "mask@r1", "mask@r2", "mask@r3", "surgery"}


def test_own_text_is_made_only_where_it_counts(project: Project) -> None:
    assert project.repro({"mixture.self": 0.0}, "capture@r1") == ["sample", "corpus", "kinds", "capture@r1"]


def test_another_weight_of_own_text_leaves_the_corpus(project: Project) -> None:
    assert set(project.repro({"mixture.self": 3.0}, "mask@r1")) == {"sample", "kinds", "mask@r1"}


def test_a_domain_added_runs_its_source_the_corpus_and_what_follows(project: Project) -> None:
    changes = {"domains.gamma": lines_of("gamma.txt"), "mixture.gamma": 1.0}
    assert project.repro(changes, "capture@r1") == ["sources@gamma", "corpus", "kinds", "capture@r1"]
    # Taken out again, the domain's file stays in data/sources, so the corpus is made once more; its bytes are
    # the same and nothing follows. (In `dvc exp run --temp` and the queue no such file is left.)
    project.write(project.before)
    assert project.repro({})[:1] == ["corpus"]
    # A clone has no such file, so that without this the corpus would be made there too.
    (project.directory / "data/sources/gamma.parquet").unlink()
    assert project.repro({})[:1] in ([], ["corpus"])


def test_a_changed_file_is_read_when_told_to(project: Project) -> None:
    file = project.directory / "alpha.txt"
    before = file.read_text(encoding="utf-8")
    force = ["dvc", "repro", "--force", "--single-item", "sources@alpha"]
    file.write_text(text(7), encoding="utf-8")
    assert project.repro({}) == []
    assert stages_run(project.run(force)) == ["sources@alpha"]
    assert project.repro({}, "corpus") == ["corpus"]
    file.write_text(before, encoding="utf-8")
    project.run(force)


# Every `dvc exp run` of the README that runs at once; the target, which the README leaves out, saves the test
# the stages that all of them share.
TICKETS = "{source: path, path: tickets.jsonl, reader: {format: jsonl, field: body}, documents: 50}"
EXPERIMENTS = {
    "dvc exp run -S prune.sparsity=0.3": ("mask@r1", {"kinds", "mask@r1"}),
    "dvc exp run -S mixture.news=0": ("mask@r1", {"kinds", "mask@r1"}),
    "dvc exp run -S rounds.r3.progress=0.8 -S '+rounds.r4={after: r3, progress: 1.0}' -S surgery.after=r4": (
        "mask@r4",
        {"kinds", "mask@r3", "capture@r4", "mask@r4"},
    ),
    "dvc exp run -S '~rounds.r3' -S rounds.r2.progress=1.0 -S surgery.after=r2": (
        "mask@r2",
        {"kinds", "mask@r2"},
    ),
    f"dvc exp run -S '+domains.tickets={TICKETS}' -S '+mixture.tickets=1.0'": (
        "capture@r1",
        {"sources@tickets", "corpus", "kinds", "capture@r1"},
    ),
    "dvc exp run -S '~domains.news' -S '~mixture.news'": ("capture@r1", {"corpus", "kinds", "capture@r1"}),
}
# Those that only queue, and how many experiments they queue.
QUEUES = {
    "dvc exp run --queue -S 'prune.sparsity=0.1,0.2,0.3' -S 'mask.metric=fisher,wanda'": 6,
    "dvc exp run --queue -S 'prune.sparsity=range(0.1,0.5,0.1)'": 4,
    "dvc exp run --queue -S 'mixture.news=choice(0,1,2)'": 3,
}


@pytest.mark.parametrize("command", EXPERIMENTS)
def test_an_experiment_of_the_readme_runs_what_it_changes(project: Project, command: str) -> None:
    project.commit()
    target, expected = EXPERIMENTS[command]
    ran = stages_run(project.run([*shlex.split(command), target]))
    assert set(ran) == expected
    # The experiment stays in DVC's list; the workspace goes back to the commit. (The text of an added domain
    # stays in data/sources, see above. Tests that run afterwards have no such file, whatever their order.)
    project.run(["git", "checkout", "--quiet", "--", "."])
    assert set(project.repro({})) <= {"corpus", "kinds", "vocabulary", *PAGES}
    (project.directory / "data/sources/tickets.parquet").unlink(missing_ok=True)
    assert set(project.repro({})) <= {"corpus", "kinds", "vocabulary", *PAGES}


@pytest.mark.parametrize("command", QUEUES)
def test_a_queue_of_the_readme_has_an_experiment_for_each_combination(project: Project, command: str) -> None:
    project.commit()
    queued = project.run(shlex.split(command)).count("Queued experiment")
    project.run(["dvc", "queue", "remove", "--all"])
    assert queued == QUEUES[command]


def test_a_sweep_ends_in_a_table_and_a_figure(project: Project) -> None:
    project.commit()
    before = project.run(["git", "rev-parse", "HEAD"])
    project.run(["dvc", "exp", "run", "--queue", "-S", "prune.sparsity=0.1,0.4"])
    project.run(["dvc", "exp", "run", "--run-all", "--jobs", "2"])
    table = project.run(["python", "-m", "stages.sweep", "--by", "prune.sparsity"]).splitlines()
    assert project.run(["git", "rev-parse", "HEAD"]) == before
    settings = {line.split()[1] for line in table[1:-1]}
    assert {"0.1", "0.2", "0.4"} <= settings
    assert (project.directory / "data/sweep/sweep.png").stat().st_size > 10_000
    shown = project.run(experiments_command()).splitlines()
    assert {"prune.sparsity", "ratio.perplexity.geometric_mean"} <= set(shown[1].split())
    assert max(map(len, shown)) < 250


def experiments_command() -> list[str]:
    """What `make experiments` runs, with DVC as it is found on the path."""
    shown = run_make("experiments", "--dry-run")
    return shlex.split(next(line for line in shown.splitlines() if "exp show" in line))


def test_a_colleague_gets_the_pruned_model_without_running_anything(project: Project, tmp_path: Path) -> None:
    store, clone = tmp_path / "store", tmp_path / "clone"
    project.run(["dvc", "remote", "add", "--default", "store", str(store)])
    project.commit()
    project.run(["dvc", "push"])
    project.run(["git", "clone", "--quiet", str(project.directory), str(clone)])
    project.run(["dvc", "--cd", str(clone), "pull", "data/pruned"])
    pruned = project.directory / "data/pruned"
    for file in pruned.iterdir():
        assert (clone / "data/pruned" / file.name).read_bytes() == file.read_bytes()
    assert not (clone / "data/model").exists()
    project.run(["dvc", "--cd", str(clone), "pull"])
    # Nothing but the text files of the test, which are no outputs, is read from the first one's folder.
    assert stages_run(project.run(["dvc", "--cd", str(clone), "repro"])) == []


STUDY = """\
grids: {small: {about: Made up., settings: {}, seeds: [0]}}
axes:
  draw: {question: How far?, show: choice, points: {default: {}}}
  rounds: {question: How many?, show: choice, points: {two: {rounds: 2, mask.metric: wanda}}}
  domain:
    question: Which?
    show: choice
    settings: {rounds: 1, mixture.self: 0.0, capture.sequences: 1, surgery.sequences: 1}
    points: {alpha: {only: alpha}}
"""


def test_a_study_comes_out_alike_through_dvc_and_in_one_process(project: Project) -> None:
    project.commit()
    (project.directory / "axes.yaml").write_text(STUDY, encoding="utf-8")
    study = ["python", "-m", "lab.study.__main__"]
    assert "queued 3 of 3" in project.run([*study, "queue", "--axes", "axes.yaml"])
    ran = stages_run(project.run(["dvc", "exp", "run", "--run-all"]))
    # The default run is in the cache, and every experiment's held-out text and dense evaluation too; only the
    # one without the model's own text has calibration text of its own.
    assert ran.count("surgery") == ran.count("perplexity@pruned") == 2
    # That one is in the cache too where the test of own text that does not count ran before.
    assert ran.count("corpus") == ran.count("sample") <= 1
    assert not {"perplexity@dense", "tasks@dense", "cost@dense"} & set(ran)
    project.run([*study, "collect", "--axes", "axes.yaml"])
    project.run([*study, "run", "--axes", "axes.yaml", "--out", "here.csv"])
    through, here = (read_results(project.directory / file) for file in ("data/study/small.csv", "here.csv"))
    assert len(through) == 3
    for name, one in through.items():
        assert here[name].pruned.perplexity == pytest.approx(one.pruned.perplexity, rel=1e-4), name
        assert here[name].dense.perplexity == pytest.approx(one.dense.perplexity, rel=1e-4), name
        assert here[name].pruned.parameters == one.pruned.parameters
