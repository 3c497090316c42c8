"""The stages recover and recovered on a tiny random model, through their files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from secateurs.checkpoints.proof import Proof
from secateurs.checkpoints.saving import save_model
from secateurs.files.json_file import write_json
from secateurs.heal.healed import Healed
from secateurs.kinds.sites import cut
from secateurs.recover.training import Check, Course, Snapshot
from secateurs.settings.recovery import OWN_KINDS
from secateurs.text.documents import Document
from secateurs.text.turns import Dialogue, to_json
from stages import recover, recovered
from stages.common.artifacts import read_sequences, write_documents, write_sequences
from stages.params.file import read_params
from stages.recovering import snapshots
from stages.recovering.models import load_teacher
from stages.recovering.reading import read_texts
from stages.recovering.text import own_questions
from stages.reporting.model_card import CalibrationText, Measures, model_card
from tests.project import (
    ROOT,
    TINY,
    change,
    invoke,
    random_sequences,
    read_yaml,
    under_torchrun,
    write_params,
)
from tests.project import run as run_command
from tests.recover.test_distillation import TRAINING
from tests.stages.reporting.evidence import evaluation, history, write_evaluation, write_evidence
from tests.tiny import make_tiny_model, make_tiny_tokenizer

CHANGES = TINY | {
    "compute.device": "cpu",
    "recover.steps": 5,
    "recover.scales_first.steps": 0,
    "recover.batch_size": 3,
    "recover.learning_rate": 0.03,
    "recover.check_every": 2,
    "recover.left_out": 1,
    "recover.mixture": {"calibration": 0.6, "plain": 0.4, "dialogues": 0.0},
}
# Half of each step's sequences are answers of the model in training.
ANSWERS = {
    "recover__batch_size": 4,
    "recover__mixture": {"calibration": 0.5, "plain": 0.2, "dialogues": 0.3},
    "recover__on_policy": {
        **{"share": 0.5, "every": 2, "batch_size": 3, "first_tokens": 4, "tokens": 12, "grown": 0.5},
        **{"temperature": 1.0, "min_p": 0.02, "divergence": "js"},
    },
}
# Two own dialogues are left out of training, and their questions asked at every look.
ABILITIES = {
    "recover__mixture": {"calibration": 0.5, "plain": 0.2, "dialogues": 0.3},
    "recover__abilities": {"questions": 2, "measure": "tokens", "tokens": 12, "batch_size": 1},
    "recover__best_by": "agreement",
}
# The dense model's likeliest tokens are read from a file.
CACHED = {
    "recover__teacher": "cached",
    "recover__cached": {"likeliest": 20},
    "recover__best_by": "divergence",
}
WEIGHTS = Path("data/recovered/model.safetensors")
OWN_DIALOGUES = OWN_KINDS["dialogues"]
CHAT = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
# Runs the stage and keeps every step; if asked, dies in the middle of the run as if the machine had.
KILLED = """
import os, signal
from stages import recover
from stages.recovering import snapshots

snapshots.SECONDS, snapshots.SHARE = 0.0, 1e9
write = snapshots.write_snapshot

def write_and_die(path, snapshot):
    write(path, snapshot)
    if len(snapshot.course.losses) == 3 and "DIE" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)

snapshots.write_snapshot = write_and_die
recover.main()
"""


@pytest.fixture
def project(here: Path, dense_dir: Path) -> Callable[..., Path]:
    """A directory as surgery leaves it; `kept` mlp channels in each of the three layers."""

    def make(kept: tuple[int, int, int] = (32, 32, 32), **changes: Any) -> Path:
        more = {key.replace("__", "."): value for key, value in changes.items()}
        write_params(here, change(read_yaml(), CHANGES | more))
        Path("data").mkdir()
        Path("data/model").symlink_to(dense_dir)
        model = make_tiny_model()
        cut(model, {f"{layer}/mlp": torch.arange(48) < width for layer, width in enumerate(kept)})
        save_model(model, Path("data/pruned"))
        make_tiny_tokenizer_with_chat().save_pretrained("data/pruned")
        measures, proof = Measures(1000, 1500, 5.0), Proof("5", type(model).__name__, 48, 1e-6)
        prune = {"widths": "uniform", "width_multiple": 1, "sites": ["mlp"]}
        rounds = [{**entry, "prune": prune, "sequences": {"news": 2}} for entry in history()]
        text, healed = CalibrationText(24), Healed("residual", {})
        card = model_card(read_params(), rounds, text, measures, measures, healed, proof)
        Path("data/pruned/README.md").write_text(card, encoding="utf-8")
        generator = torch.Generator().manual_seed(0)
        domains = ["news", "self", "own text"]
        if {"recover.on_policy", "recover.abilities"} & {*more}:
            domains.append(OWN_DIALOGUES)
            texts = [to_json(Dialogue(f"What is {n}?", "A number.", True)) for n in range(9)]
            named = [Document(f"dialogue-{n}", text, chat=True) for n, text in enumerate(texts)]
            write_documents(Path("data/own/dialogues.parquet"), named)
        rows = random_sequences(domains, 24, generator)
        # Each row of dialogues has the end of one and the beginning of the next; the last row is left out.
        for number, row in enumerate(row for row in rows if row.domain == OWN_DIALOGUES):
            names = (f"dialogue-{number}", f"dialogue-{number + 1}")
            rows[rows.index(row)] = replace(row, documents=names)
        write_sequences(Path("data/corpus/recovery.parquet"), rows, {})
        return here

    return make


@pytest.fixture
def unproved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the seconds of a fresh process where the checkpoint itself is looked at."""
    proof = Proof("5", "LlamaForCausalLM", 48, 1e-6)
    monkeypatch.setattr(recover, "prove_load", lambda *arguments: proof)


def make_tiny_tokenizer_with_chat() -> PreTrainedTokenizerFast:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = CHAT
    return tokenizer


def run(status: int = 0) -> str:
    return invoke(recover.main, status=status)


def test_the_result_is_a_complete_checkpoint_of_the_pruned_shapes(project: Callable[..., Path]) -> None:
    project()
    output = run()
    model = AutoModelForCausalLM.from_pretrained("data/recovered")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.intermediate_size == 32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert AutoTokenizer.from_pretrained("data/recovered")("text").input_ids
    before, after = (load_file(f"data/{one}/model.safetensors") for one in ("pruned", "recovered"))
    assert {name: weight.shape for name, weight in after.items()} == {
        name: weight.shape for name, weight in before.items()
    }
    fit = json.loads(Path("data/recovered/recovery.json").read_text())
    assert list(fit["before"]) == list(fit["after"]) == ["all", "calibration text", "own text"]
    assert fit["after"]["all"] < fit["before"]["all"]
    assert (fit["steps"], len(fit["course"]["losses"])) == (5, 5)
    assert [check["steps"] for check in fit["course"]["checks"]] == [0, 2, 4, 5]
    assert "of which 5 were kept" in output
    assert not snapshots.SCRATCH.exists()


def table(name: str) -> list[tuple[int, float]]:
    head, *rows = Path("data/recovery", f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    assert head == f"step\t{name}"
    return [(int(step), float(value)) for step, value in (row.split("\t") for row in rows)]


@pytest.mark.usefixtures("unproved")
def test_the_loss_of_every_step_and_every_check_are_tables(project: Callable[..., Path]) -> None:
    project()
    run()
    course = json.loads(Path("data/recovered/recovery.json").read_text())["course"]
    assert table("loss") == list(enumerate(course["losses"], 1))
    assert table("divergence") == [(check["steps"], check["divergence"]) for check in course["checks"]]
    # Nothing was asked.
    assert table("agreement") == []


@pytest.mark.usefixtures("unproved")
def test_without_a_step_there_is_the_check_before_any(project: Callable[..., Path]) -> None:
    project(recover__steps=0)
    run()
    assert (len(table("loss")), [step for step, _ in table("divergence")]) == (0, [0])


@pytest.mark.usefixtures("unproved")
def test_the_card_says_what_was_done(project: Callable[..., Path]) -> None:
    project()
    run()
    card = Path("data/recovered/README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "\n# SmolLM2-135M-Instruct, pruned by 0%, then recovered\n" in card
    headings = [line for line in card.splitlines() if line.startswith("## ")]
    assert headings == ["## Size", "## How it was recovered", "## How it was pruned", "## Runtimes tried"]
    assert "- 5 steps of 3 sequences, 360 tokens with repetitions" in card
    assert "(calibration text 60%, own text 40%); the weights are those after step 5" in card
    assert "learning rate 0.03 after a warm-up of 5% of the steps" in card
    fit = json.loads(Path("data/recovered/recovery.json").read_text())
    for kind in ("all", "calibration text", "own text"):
        before, after = (fit[when][kind] for when in ("before", "after"))
        assert f"| {kind} | {before:.4f} | {after:.4f} |" in card
    assert card.count("loaded in a fresh process") == 1


@pytest.mark.usefixtures("unproved")
def test_what_cannot_fit_is_refused_with_the_numbers_and_nothing_is_written(
    project: Callable[..., Path],
) -> None:
    project(recover__batch_size=10**8, recover__micro_batch_size=10**8)
    before = sorted(Path("data").rglob("*"))
    said = run(status=1)
    assert re.search(
        r"recover.weights: scales: needs about [\d.]+ TB of memory at once and .* has [\d.]+ GB; "
        r"recover.micro_batch_size: 1 needs [\d.]+ [MG]B",
        said,
    )
    assert sorted(Path("data").rglob("*")) == before


@pytest.mark.usefixtures("unproved")
def test_the_card_names_the_engine_that_wrote_the_models_own_text(project: Callable[..., Path]) -> None:
    project()
    facts = {"engine": "vLLM", "version": "0.9", "seed": 4, "dtype": "bfloat16"}
    rows = read_sequences(Path("data/corpus/recovery.parquet"))
    write_sequences(Path("data/corpus/recovery.parquet"), rows, {"written_by": {"own text": facts}})
    run()
    card = Path("data/recovered/README.md").read_text()
    assert "- text of `own text`: written by the dense model through vLLM 0.9, in bfloat16, seed 4\n" in card
    assert json.loads(Path("data/recovered/recovery.json").read_text())["written_by"] == {"own text": facts}


def test_an_optimizer_whose_library_is_missing_is_refused_and_nothing_is_written(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project(recover__optimizer="adamw_8bit")
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    before = sorted(Path("data").rglob("*"))
    assert "recover.optimizer: adamw_8bit: needs bitsandbytes, which cannot be imported" in run(status=1)
    assert sorted(Path("data").rglob("*")) == before


def test_scales_can_be_trained_before_all_weights(project: Callable[..., Path]) -> None:
    first = {"steps": 2, "learning_rate": 0.01}
    project(
        recover__weights="all",
        recover__learning_rate=0.001,
        recover__patience=9,
        recover__scales_first=first,
    )
    output = run()
    fit = json.loads(Path("data/recovered/recovery.json").read_text())
    assert (fit["scales_first"], fit["steps"], len(fit["course"]["losses"])) == (2, 5, 7)
    # What all weights begin with is what the scales ended with.
    assert [check["steps"] for check in fit["course"]["checks"]] == [0, 2, 4, 6, 7]
    assert table("divergence")[-1] == (7, fit["course"]["checks"][-1]["divergence"])
    assert fit["after"]["all"] < fit["before"]["all"]
    assert f"7 steps, of which {2 + fit['kept']} were kept" in output
    assert "- first 2 steps of norms and factors alone" in Path("data/recovered/README.md").read_text("utf-8")
    before, after = load_file("data/pruned/model.safetensors"), load_file(WEIGHTS)
    # The scales leave these alone, and all weights do not.
    assert not torch.equal(*(one["model.layers.0.mlp.up_proj.weight"] for one in (before, after)))


@pytest.mark.usefixtures("unproved")
@pytest.mark.parametrize("weights", ["all", "scales"])
def test_no_steps_leave_the_pruned_weights(project: Callable[..., Path], weights: str) -> None:
    project(recover__steps=0, recover__weights=weights)
    run()
    assert WEIGHTS.read_bytes() == Path("data/pruned/model.safetensors").read_bytes()


@pytest.mark.usefixtures("quick_programs")
def test_layers_of_different_width_keep_their_modelling_file(project: Callable[..., Path]) -> None:
    project((40, 32, 24))
    run()
    model = AutoModelForCausalLM.from_pretrained("data/recovered", trust_remote_code=True)
    assert [layer.mlp.up_proj.out_features for layer in model.model.layers] == [40, 32, 24]
    assert "with `trust_remote_code=True`" in Path("data/recovered/README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("unproved")
def test_the_result_has_the_dtype_of_its_source_whatever_it_is_computed_in(
    project: Callable[..., Path],
) -> None:
    project(compute__dtype="bfloat16")
    run()
    assert {weight.dtype for weight in load_file(WEIGHTS).values()} == {torch.float32}


@pytest.mark.usefixtures("unproved")
@pytest.mark.parametrize(
    ("changes", "kept"),
    [({}, 1), (ANSWERS, 1), (ABILITIES | CACHED, 3)],
    ids=["text", "answers", "abilities and a file"],
)
def test_a_killed_run_goes_on_to_the_same_bits(
    changes: dict[str, Any], kept: int, project: Callable[..., Path]
) -> None:
    project(**changes)
    run()
    whole, losses = WEIGHTS.read_bytes(), table("loss")
    WEIGHTS.unlink()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DIE": "yes"}
    died = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not WEIGHTS.exists()
    # The snapshot, and the dense model's answers and distributions.
    assert len(list(snapshots.SCRATCH.iterdir())) == kept
    # The table is there while the run is, and whole after one that goes on, though DVC deletes it in between.
    assert table("loss") == losses[:3]
    shutil.rmtree("data/recovery")
    output = run()
    assert "goes on after step 3 of 5" in output
    assert WEIGHTS.read_bytes() == whole
    assert table("loss") == losses
    assert not snapshots.SCRATCH.exists()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, ANSWERS], ids=["text", "answers"])
def test_a_run_killed_under_dvc_goes_on_to_the_same_bits(
    changes: dict[str, Any], project: Callable[..., Path]
) -> None:
    here = project(**changes)
    run()
    whole = content(Path("data/recovered"))
    for made in ("data/recovered", "data/recovery"):
        shutil.rmtree(made)
    (here / "stage.py").write_text(KILLED, encoding="utf-8")
    pipeline = read_yaml(ROOT / "stages/recovering/pipeline.yaml")
    stage = pipeline["stages"]["recover"]
    stage |= {"wdir": ".", "cmd": f"{sys.executable} stage.py"}
    # As it stands, with what is there of it: the code is imported from elsewhere.
    stage["deps"] = [path for path in stage["deps"] if Path(path).exists()]
    stage["plots"] = [next(iter(plot)) for plot in stage["plots"]]
    with (here / "dvc.yaml").open("w", encoding="utf-8") as file:
        YAML().dump({"stages": {"recover": stage}}, file)
    dvc(here, "init", "--no-scm", "--quiet")
    died = dvc(here, "repro", DIE="yes", status=255)
    assert "goes on" not in died
    assert "failed to run" in died
    assert len(list(snapshots.SCRATCH.iterdir())) == 1
    assert "goes on after step 3 of 5" in dvc(here, "repro")
    assert content(Path("data/recovered")) == whole
    assert len(table("loss")) == 5
    assert "didn't change, skipping" in dvc(here, "repro")


def dvc(directory: Path, *command: str, status: int = 0, **environment: str) -> str:
    return run_command(directory, "dvc", *command, status=status, **environment)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.usefixtures("unproved")
def test_answers_are_trained_on_and_the_card_says_so(project: Callable[..., Path]) -> None:
    project(**ANSWERS)
    output = run()
    assert " tokens a second, with writing and looks" in output
    fit = json.loads(Path("data/recovered/recovery.json").read_text())
    assert fit["after"]["all"] < fit["before"]["all"]
    # Two rows of 24 tokens a step, and two answers with their questions.
    assert all(tokens > 48 + 2 * len("<user>What is 0?<assistant>") for tokens in fit["course"]["tokens"])
    card = Path("data/recovered/README.md").read_text(encoding="utf-8")
    assert "- 2 of each step's 4 sequences were answers that it wrote itself, of 4 tokens at first" in card
    assert "trained by the Jensen-Shannon divergence" in card


def test_questions_of_dialogues_that_are_left_out_are_not_asked(project: Callable[..., Path]) -> None:
    project(**ANSWERS)
    rows = read_sequences(Path("data/corpus/recovery.parquet"))
    found = own_questions(make_tiny_tokenizer_with_chat(), rows, trained=3)
    texts = [make_tiny_tokenizer().decode(list(ids)) for ids in found.prompts]
    # Of rows 0 to 3 the last one is left out, and with it dialogues 3 and 4.
    assert texts == [f"<user>What is {n}?<assistant>" for n in range(3)]


@pytest.mark.usefixtures("unproved")
def test_looks_at_abilities_are_in_the_course_the_curve_the_card_and_the_summary(
    project: Callable[..., Path],
) -> None:
    project(**ABILITIES)
    output = run()
    fit = json.loads(Path("data/recovered/recovery.json").read_text())
    found = [(check["steps"], check["agreement"]) for check in fit["course"]["checks"]]
    assert table("agreement") == found
    best = max(share for _, share in found)
    assert fit["agreement"] == {"before": found[0][1], "after": best}
    assert (fit["kept"], best) in found
    shares = f"{found[0][1]:.1%} -> {best:.1%}"
    assert f"agreement with its answers to 2 left-out questions {shares}, in data/recovered" in output
    card = " ".join(Path("data/recovered/README.md").read_text(encoding="utf-8").split())
    assert "when the agreement with the dense model's answers was highest" in card
    assert "The dense model answered 2 questions of its own that are left out of training." in card
    assert f"the pruned model held {found[0][1]:.1%} likeliest, and the recovered one {best:.1%}." in card
    assert not snapshots.SCRATCH.exists()


@pytest.mark.usefixtures("unproved")
def test_a_cached_teacher_is_loaded_once_for_what_is_in_no_file(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project(**ABILITIES | CACHED)
    loaded = []

    def load(*arguments: Any) -> Any:
        loaded.append(arguments)
        return load_teacher(*arguments)

    monkeypatch.setattr(recover, "load_teacher", load)
    monkeypatch.setattr(recover, "clear", lambda: None)
    run()
    first = content(Path("data/recovered"))
    fit = json.loads(first["recovery.json"])
    assert fit["after"]["all"] < fit["before"]["all"]
    assert None not in [check["agreement"] for check in fit["course"]["checks"]]
    (file,) = snapshots.SCRATCH.glob("*.likeliest")
    assert file.stat().st_size % (4 + 24 * (20 * 6 + 4)) == 0
    for path in [*snapshots.SCRATCH.glob("*.safetensors")]:
        if "answers" not in load_file(path) or len(load_file(path)) > 1:
            path.unlink()
    shutil.rmtree("data/recovered")
    run()
    assert len(loaded) == 1
    assert content(Path("data/recovered")) == first


def test_a_file_that_does_not_fit_the_disk_is_refused_with_the_numbers(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project(**CACHED)
    usage = shutil.disk_usage(".")._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    output = run(status=1)
    # All rows of three domains, four of each: 12 times 4 + 24 (6 * 20 + 4) bytes.
    assert (
        "params.yaml: recover.teacher: cached: 12 sequences need 35.8 kB in data/.recovering, and 10.0 kB "
        "are free; lower recover.cached.likeliest: 20, or set recover.teacher to live"
    ) in " ".join(output.split())


def test_dialogues_that_are_asked_stand_in_no_row_that_is_trained_on(project: Callable[..., Path]) -> None:
    project(
        **ABILITIES
        | {"recover__abilities": {"questions": 3, "measure": "tokens", "tokens": 12, "batch_size": 1}}
    )
    tokenizer = make_tiny_tokenizer_with_chat()
    rows = read_sequences(Path("data/corpus/recovery.parquet"))
    texts, asked = read_texts(read_params(), tokenizer, tokenizer)
    assert asked is not None
    said = [tokenizer.decode(list(ids)) for ids in asked.prompts]
    # Of the rows of dialogues 0 and 1, 1 and 2, 2 and 3, 3 and 4 the last three; two are enough for text.
    assert said == [f"<user>What is {n}?<assistant>" for n in (2, 3, 4)]
    own = [list(row.input_ids) for row in rows if row.domain == OWN_DIALOGUES]
    assert texts.trained[OWN_DIALOGUES].tolist() == own[:1]
    assert texts.left_out[OWN_DIALOGUES].tolist() == own[2:]


def test_more_questions_than_can_be_left_out_are_one_message(project: Callable[..., Path]) -> None:
    few = {"questions": 4, "measure": "tokens", "tokens": 12, "batch_size": 1}
    project(**ABILITIES | {"recover__abilities": few})
    output = run(status=1)
    assert (
        "params.yaml: recover.abilities.questions: 4: there are 5 own dialogues in 4 sequences, of which "
        "none would be left to train on; lower it, or raise recover.own.dialogues"
    ) in " ".join(output.split())


@pytest.mark.usefixtures("unproved")
def test_matrices_of_low_rank_are_part_of_the_weights_in_the_end(project: Callable[..., Path]) -> None:
    project(recover__weights="low_rank", recover__low_rank={"rank": 4, "targets": ["down_proj"]})
    run()
    before, after = load_file("data/pruned/model.safetensors"), load_file(WEIGHTS)
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(3)}
    fit = json.loads(Path("data/recovered/recovery.json").read_text())
    assert fit["parameters"] == 3 * 4 * (32 + 32)
    assert "matrices of rank 4 beside projections" in Path("data/recovered/README.md").read_text("utf-8")


@pytest.mark.usefixtures("unproved")
def test_a_budget_of_minutes_takes_no_more_steps_than_there_are(project: Callable[..., Path]) -> None:
    project(recover__minutes=60.0)
    run()
    fit = json.loads(Path("data/recovered/recovery.json").read_text())
    assert fit["course"]["steps"] == 5


def test_a_run_goes_on_from_its_own_snapshot_only(project: Callable[..., Path]) -> None:
    project()
    inputs = [Path("data/pruned"), Path("data/corpus/recovery.parquet")]
    path = snapshots.snapshot_path({"steps": 5}, inputs)
    assert snapshots.snapshot_path({"steps": 5}, inputs) == path
    assert snapshots.snapshot_path({"steps": 6}, inputs) != path
    Path("data/pruned/README.md").write_text("other", encoding="utf-8")
    assert snapshots.snapshot_path({"steps": 5}, inputs) != path


def test_snapshots_are_rare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = [0.0]
    written = []

    def write_slowly(path: Path, snapshot: Any) -> None:
        clock[0] += 30.0
        written.append(clock[0])

    monkeypatch.setattr(snapshots.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(snapshots, "write_snapshot", write_slowly)
    save = snapshots.saving(tmp_path / "snapshot", TRAINING.changed(steps=200))
    checks = (Check(0, 0.5, {}),)
    for step in range(1, 201):
        clock[0] += 10.0
        save(lambda made=step: Snapshot(Course((0.5,) * made, checks, 200), {}))
    # After five minutes first; as one takes half a minute, the next ones come after another ten.
    *rare, last = written
    assert rare == [330.0, 960.0, 1590.0]
    # And after the last step.
    assert last == 2120.0


@pytest.mark.parametrize(
    ("changes", "environment", "message"),
    [
        ({"compute__device": "sharded"}, {}, "compute.device: sharded: recover needs one device"),
        ({}, {"WORLD_SIZE": "2"}, "recover.weights: scales: 2 processes train all weights"),
    ],
)
def test_several_devices_or_processes_are_refused(
    project: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    environment: dict[str, str],
    message: str,
) -> None:
    project(**changes)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    output = run(status=1)
    assert message in output


@pytest.mark.slow
@pytest.mark.usefixtures("unproved")
def test_two_processes_write_what_one_does(project: Callable[..., Path]) -> None:
    project(recover__weights="all", recover__batch_size=4, recover__learning_rate=0.001)
    run()
    whole, losses = load_file(WEIGHTS), table("loss")
    for made in ("data/recovered", "data/recovery"):
        shutil.rmtree(made)
    under_torchrun(2, "-m", "stages.recover")
    found = load_file(WEIGHTS)
    assert found.keys() == whole.keys()
    assert all(torch.allclose(weight, whole[name], atol=1e-4) for name, weight in found.items())
    assert [step for step, _ in table("loss")] == [step for step, _ in losses]
    assert [loss for _, loss in table("loss")] == pytest.approx([loss for _, loss in losses], abs=1e-5)
    assert not snapshots.SCRATCH.exists()


def test_a_pruned_model_that_is_missing_is_one_message(project: Callable[..., Path]) -> None:
    directory = project()
    (directory / "data/pruned").rename(directory / "data/elsewhere")
    output = run(status=1)
    assert "data/pruned: no checkpoint there; run `dvc repro surgery`" in output
    assert not Path("data/recovered").exists()


def test_measures_stand_beside_the_dense_ones_and_not_in_the_metrics(here: Path) -> None:
    write_params(
        here,
        change(read_yaml(), {"rounds": {"r2": {"after": "dense", "progress": 1.0}}, "surgery.after": "r2"}),
    )
    write_evidence(Path("data"))
    write_evaluation(Path("data/evaluations/recovered"), evaluation(1.1), 6)
    Path("data/recovered").mkdir()
    recovery = {
        "training": {"steps": 5},
        "scales_first": 0,
        "steps": 5,
        "kept": 4,
        "tokens": 360,
        "parameters": 1000,
        "shares": {"calibration text": 1.0},
        "before": {"all": 0.50004},
        "after": {"all": 0.4},
        "agreement": {"before": 0.91234, "after": 0.95},
    }
    write_json(Path("data/recovered/recovery.json"), recovery | {"course": {"losses": [0.2, 0.1]}})
    output = invoke(recovered.main)
    metrics = json.loads(Path("data/recovered.json").read_text())
    assert list(metrics) == ["recovered", "ratio", "pruned", "recovery"]
    assert metrics["recovered"]["perplexity"]["geometric_mean"] == 11.0
    assert metrics["ratio"]["perplexity"]["geometric_mean"] == 1.1
    assert metrics["recovery"] == recovery | {
        "before": {"all": 0.5},
        "agreement": {"before": 0.9123, "after": 0.95},
    }
    assert not Path("data/metrics.json").exists()
    row = next(line for line in output.splitlines() if line.startswith("perplexity"))
    assert row.split()[-3:] == ["10.00", "11.00", "+10%"]
    pruned = json.loads(Path("data/evaluations/pruned/tasks.json").read_text())
    assert list(metrics["pruned"]) == ["perplexity", "accuracy"]
    assert pruned
    accuracy = {one: metrics[one]["accuracy"]["mean"] for one in ("pruned", "recovered")}
    assert f"pruned {accuracy['pruned']:.3f} ± " in output
    assert f"recovered {accuracy['recovered']:.3f} ± " in output
