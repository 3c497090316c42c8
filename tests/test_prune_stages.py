"""The stages capture, mask and surgery on a tiny random model, through their files."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateurs.checkpoints.loading import load_model
from secateurs.families.decoder import decoder_parameters
from secateurs.kinds.names import widths
from secateurs.pruner import prune_model
from secateurs.text.documents import Sequence
from stages import capture, mask, model, surgery
from stages.common.artifacts import read_json, read_sequences, write_sequences
from stages.common.calibration_text import read_text
from stages.common.paths import HEALING
from stages.params.file import read_params
from stages.params.method_settings import method_settings
from stages.rounds.captures import read_captures
from stages.rounds.tensors import read_masks, read_scores
from tests.families.test_families import tiny
from tests.project import (
    TINY,
    change,
    invoke,
    invoke_all,
    model_at,
    random_sequences,
    read_yaml,
    under_torchrun,
    write_dense_round,
    write_params,
)
from tests.tiny import make_tiny_model, make_tiny_tokenizer


def set_up(directory: Path, dense_dir: Path, **changes: Any) -> None:
    """Make of a directory a project as the stages before capture leave it, with changes of its params."""
    more = {key.replace("__", "."): value for key, value in changes.items()}
    write_params(directory, change(read_yaml(), TINY | more))
    shutil.copytree(dense_dir, directory / "data/model")
    generator = torch.Generator().manual_seed(0)
    rows = random_sequences(("news", "self"), 24, generator)
    write_sequences(directory / "data/corpus/calibration.parquet", rows, {})
    write_dense_round(directory, make_tiny_model())


@pytest.fixture
def project(here: Path, dense_dir: Path) -> Callable[..., Path]:
    """A directory as the stages before capture leave it; the argument changes its params."""

    def make(**changes: Any) -> Path:
        set_up(here, dense_dir, **changes)
        return here

    return make


def test_a_capture_says_that_its_backward_pass_is_not_read(project: Callable[..., Path]) -> None:
    project(mask__metric="wanda")
    said = invoke(capture.main, "r1").splitlines()
    assert said[-1] == (
        "Hint: params.yaml: capture.gradients: true makes a backward pass that mask.metric: wanda does not "
        "read; false takes half of a round's time"
    )
    project_params = change(read_yaml(), TINY | {"mask.metric": "wanda", "capture.gradients": False})
    write_params(Path(), project_params)
    assert "Hint" not in invoke(capture.main, "r1")


STATISTICS = Path("data/rounds/r1/statistics.safetensors")


@pytest.mark.usefixtures("quick_programs")
def test_a_capture_that_streams_layers_writes_the_same_file(project: Callable[..., Path]) -> None:
    forward = {"mask__metric": "wanda", "capture__gradients": False}
    directory = project(**forward)
    invoke(capture.main, "r1")
    resident, one = STATISTICS.read_bytes(), read_captures(STATISTICS)
    write_params(directory, change(read_yaml(Path("params.yaml")), {"capture.layers": "streamed"}))
    invoke(capture.main, "r1")
    assert STATISTICS.read_bytes() == resident
    as_processes(2, "stages.capture", "r1")
    for domain, two in read_captures(STATISTICS).items():
        assert two.loss == pytest.approx(one[domain].loss, rel=1e-6)
        for site, statistics in two.statistics.items():
            for name, values in statistics.items():
                assert torch.allclose(values, one[domain].statistics[site][name], rtol=1e-5, atol=1e-12)


def run_rounds() -> None:
    for name in ("r1", "r2", "r3"):
        for stage in (capture.main, mask.main):
            invoke(stage, name)


def run_all(status: int = 0) -> str:
    """What surgery says after the rounds; it must end with `status`."""
    run_rounds()
    return invoke(surgery.main, status=status)


@pytest.fixture(scope="module")
def unchanged_run(tmp_path_factory: pytest.TempPathFactory, dense_dir: Path) -> tuple[Path, str]:
    """A project without further changes that went through all stages, and what surgery said; to be read."""
    directory = tmp_path_factory.mktemp("unchanged")
    set_up(directory, dense_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return directory, run_all()


@pytest.fixture
def pruned_project(unchanged_run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: a project that all stages went through, which several tests read."""
    directory, _ = unchanged_run
    monkeypatch.chdir(directory)
    return directory


def test_blocks_go_through_the_stages_and_the_card_names_them(project: Callable[..., Path]) -> None:
    directory = project(prune__sites=["blocks"], prune__sparsity=0.5)
    run_all()
    card = (directory / "data/pruned/README.md").read_text(encoding="utf-8")
    assert "with whole decoder blocks removed by Secateurs." in card
    (entry, *_) = reversed(
        json.loads((directory / "data/rounds/r3/history.json").read_text(encoding="utf-8"))
    )
    assert 0 in entry["kept"]["blocks"]


def test_the_result_is_a_complete_checkpoint_for_stock_classes(unchanged_run: tuple[Path, str]) -> None:
    directory, said = unchanged_run
    pruned = directory / "data/pruned"
    model = AutoModelForCausalLM.from_pretrained(pruned)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.intermediate_size < 48
    ids = AutoTokenizer.from_pretrained(pruned)("some text", return_tensors="pt").input_ids
    assert model.generate(ids, max_new_tokens=4, min_new_tokens=4).shape[1] == ids.shape[1] + 4
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {
        file.name for file in pruned.iterdir()
    }
    card = (pruned / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    assert str(directory) not in card
    healing = read_json(pruned / "healing.json")
    assert healing["method"] == min(healing["divergences"], key=healing["divergences"].get)
    assert f"- healing: `{healing['method']}`" in card
    assert f"`residual` {healing['divergences']['residual']:.4f}" in card
    assert f"healed by {healing['method']} (divergence from the dense model: least_squares " in said
    assert f"| parameters | {make_tiny_model().num_parameters():,} | {model.num_parameters():,} |" in card
    assert f"- transformers {transformers.__version__}: loaded in a fresh process" in card


@pytest.mark.usefixtures("quick_programs")
def test_a_checkpoint_that_does_not_load_gets_no_final_name(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = project()
    monkeypatch.setattr(surgery, "save_model", lambda model, path: model.save_pretrained(path))
    write_params(directory, change(read_yaml(), {**TINY, "prune.widths": "per_layer"}))
    assert "data/pruned: the checkpoint does not load in a fresh process" in run_all(status=1)
    assert not list(Path("data").glob("*pruned*"))


@pytest.mark.usefixtures("quick_programs")
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen3_moe", {"prune.sparsity": 0.3, "prune.width_multiple": 8}),
        ("mixtral", {"prune.sites": ["mlp", "attention"], "prune.width_multiple": 8}),
        ("gemma3_text", {"prune.sites": ["mlp", "query_heads"], "prune.widths": "per_layer"}),
        ("gpt_neox", {"prune.widths": "per_layer"}),
    ],
)
def test_other_families_go_the_whole_way(
    project: Callable[..., Path], tmp_path: Path, family: str, changes: dict[str, Any]
) -> None:
    directory = project()
    source = tmp_path / "source"
    tiny(family, vocab_size=258).save_pretrained(source)
    make_tiny_tokenizer().save_pretrained(source)
    origin = model_at(source) | {"name": family}
    write_params(directory, change(read_yaml(), {**TINY, "model": origin, **changes}))
    invoke(model.main)
    dense = load_file(source / "model.safetensors")
    assert all(
        torch.equal(dense[name], one) for name, one in load_file("data/model/model.safetensors").items()
    )
    run_all()
    removed = json.loads(Path("data/rounds/r3/history.json").read_text())[-1]["sparsity"]
    before, after = (
        decoder_parameters(load_model(Path("data", one), "float32")) for one in ("model", "pruned")
    )
    assert 1 - after / before == pytest.approx(removed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"prune.widths": "per_layer"},
            "prune.widths: per_layer: the experts of a layer must have one width",
        ),
        ({"prune.width_multiple": 12}, "prune.width_multiple: 12: widths of experts must be multiples of 8"),
    ],
)
def test_widths_that_experts_cannot_have_are_refused_once_they_are_set(
    project: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    directory = project()
    tiny("mixtral", vocab_size=258).save_pretrained(tmp_path / "source")
    make_tiny_tokenizer().save_pretrained(tmp_path / "source")
    origin = model_at(tmp_path / "source")
    write_params(directory, change(read_yaml(), {**TINY, "model": origin, "prune.width_multiple": 8}))
    invoke_all((model.main,), (capture.main, "r1"))
    # DVC may have either of the stages from before, with other settings.
    write_params(
        directory, change(read_yaml(), {**TINY, "model": origin, "prune.width_multiple": 8, **changes})
    )
    for stage in (capture.main, mask.main):
        assert f"params.yaml: {message}" in invoke(stage, "r1", status=1)


def test_rounds_are_nested_and_their_history_grows(pruned_project: Path) -> None:
    rounds = pruned_project / "data/rounds"
    masks = [read_masks(rounds / name / "masks.safetensors") for name in ("dense", "r1", "r2", "r3")]
    for before, after in pairwise(masks):
        assert not any(bool((after[name] & ~before[name]).any()) for name in after)
    history = json.loads((rounds / "r3/history.json").read_text(encoding="utf-8"))
    assert [entry["round"] for entry in history] == ["r1", "r2", "r3"]
    assert history[-1]["sparsity"] >= 0.2
    assert history[-1]["kept"]["mlp"] == widths(masks[-1], "mlp")


@pytest.mark.usefixtures("quick_programs")
@pytest.mark.parametrize("sites", [["mlp"], ["mlp", "attention"]])
def test_per_layer_widths_load_through_their_own_modelling_file(
    project: Callable[..., Path], sites: list[str]
) -> None:
    directory = project(prune__widths="per_layer", prune__sites=sites, prune__sparsity=0.3)
    run_all()
    model = AutoModelForCausalLM.from_pretrained(directory / "data/pruned", trust_remote_code=True)
    assert len({one.intermediate_size for one in model.config.per_layer_config}) > 1
    masks = read_masks(directory / "data/rounds/r3/masks.safetensors")
    assert [layer.mlp.up_proj.out_features for layer in model.model.layers] == widths(masks, "mlp")
    ids = torch.arange(12)[None]
    with torch.no_grad():
        whole = model(ids).logits[:, -1]
        cache = model(ids[:, :-1], use_cache=True).past_key_values
        cached = model(ids[:, -1:], past_key_values=cache).logits[:, -1]
    assert torch.allclose(whole, cached, atol=1e-4)
    model.save_pretrained(directory / "again")
    again = AutoModelForCausalLM.from_pretrained(directory / "again", trust_remote_code=True)
    with torch.no_grad():
        assert torch.equal(again(ids).logits[:, -1], whole)


@pytest.mark.usefixtures("quick_programs")
def test_a_domain_of_weight_zero_does_not_take_part(project: Callable[..., Path]) -> None:
    directory = project(mixture={"news": 1.0, "self": 0.0, "dialogues": 0.0})
    run_all()
    weights = (directory / "data/pruned/model.safetensors").read_bytes()
    calibration = Path("data/corpus/calibration.parquet")
    kept = [row for row in read_sequences(calibration) if row.domain == "news"]
    other = [Sequence("self", ("d",), tuple(range(24)))] * 4
    write_sequences(calibration, kept + other, {})
    run_all()
    assert (directory / "data/pruned/model.safetensors").read_bytes() == weights


@pytest.mark.usefixtures("quick_programs")
def test_the_rounds_end_at_the_parameters_asked_for(project: Callable[..., Path]) -> None:
    directory = project()
    aim = make_tiny_model().num_parameters() - 4000
    changes = {**TINY, "prune.sparsity": ..., "prune.parameters": aim}
    write_params(directory, change(read_yaml(), changes))
    run_all()
    left = AutoModelForCausalLM.from_pretrained("data/pruned").num_parameters()
    assert aim - 3 * 3 * 32 < left <= aim
    assert [entry["prune"]["parameters"] for entry in read_json(Path("data/rounds/r3/history.json"))] == [
        aim
    ] * 3


def test_a_sparsity_beyond_the_floors_is_refused_in_the_first_round(project: Callable[..., Path]) -> None:
    project(prune__sparsity=0.9)
    invoke(capture.main, "r1")
    output = invoke(mask.main, "r1", status=1)
    assert "params.yaml: prune.sparsity: 0.9: asks for" in output
    assert "the nearest that can be met is prune.sparsity: 0." in output
    assert not Path("data/rounds/r1/masks.safetensors").exists()


@pytest.mark.parametrize(("metric", "status"), [("fisher", 0), ("wanda", 1)])
def test_a_mask_reads_weights_only_where_its_metric_does(
    project: Callable[..., Path], metric: str, status: int
) -> None:
    project(mask__metric=metric)
    invoke(capture.main, "r1")
    Path("data/model/model.safetensors").unlink()
    invoke(mask.main, "r1", status=status)
    assert Path("data/rounds/r1/masks.safetensors").exists() == (status == 0)


def test_masks_by_shapes_alone_are_those_of_the_whole_model(
    pruned_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [Path("data/rounds/r1") / f"{name}.safetensors" for name in ("masks", "scores")]
    by_shapes = [path.read_bytes() for path in written]
    monkeypatch.setattr(mask, "WEIGHT_METRICS", {"fisher"})
    invoke(mask.main, "r1")
    assert [path.read_bytes() for path in written] == by_shapes


def test_unreadable_masks_end_with_one_message(project: Callable[..., Path]) -> None:
    project()
    Path("data/rounds/dense/masks.safetensors").write_bytes(b"broken")
    assert "masks.safetensors: not a safetensors file" in invoke(capture.main, "r1", status=1)
    assert not Path("data/rounds/r1").exists()


def test_scores_add_up_over_the_rounds(project: Callable[..., Path]) -> None:
    rounds = project(mask__metric="magnitude") / "data/rounds"
    run_rounds()
    first, last = (read_scores(rounds / name / "scores.safetensors") for name in ("r1", "r3"))
    assert all(torch.allclose(last[name], 3 * first[name]) for name in first)


def as_processes(count: int, *stage: str) -> None:
    """Run a stage as so many processes."""
    printed = under_torchrun(count, "-m", *stage)
    assert printed.count(stage[0].split(".")[1]) == 1, "one process alone prints the summary"


@pytest.mark.usefixtures("quick_programs")
@pytest.mark.parametrize(
    "processes", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)]
)
def test_several_processes_say_what_one_does(processes: int, project: Callable[..., Path]) -> None:
    """Three sequences a domain, so that the shares are of different size, or one has none."""
    directory = project(capture__sequences=3, prune__sites=["mlp", "attention"])
    run_all()
    one = read_captures(directory / "data/rounds/r1/statistics.safetensors")
    weights = load_file(directory / "data/pruned/model.safetensors")
    as_processes(processes, "stages.capture", "r1")
    two = read_captures(directory / "data/rounds/r1/statistics.safetensors")
    for domain, capture_of_one in one.items():
        assert two[domain].loss == pytest.approx(capture_of_one.loss, rel=1e-6)
        assert (two[domain].sequences, two[domain].tokens) == (3, 3 * 24)
        for site, statistics in capture_of_one.statistics.items():
            for name, values in statistics.items():
                found = two[domain].statistics[site][name]
                assert torch.allclose(found, values, rtol=1e-4, atol=1e-12), (domain, site, name)
    chosen = read_json(directory / "data/pruned/healing.json")
    as_processes(processes, "stages.surgery")
    again = read_json(directory / "data/pruned/healing.json")
    assert again["method"] == chosen["method"]
    assert again["divergences"] == pytest.approx(chosen["divergences"], rel=1e-3)
    healed = load_file(directory / "data/pruned/model.safetensors")
    assert healed.keys() == weights.keys()
    assert all(torch.allclose(healed[name], weights[name], atol=1e-4) for name in weights)


def test_the_stages_are_prune_model_with_files_between(pruned_project: Path) -> None:
    params = read_params()
    model = load_model(Path("data/model"), "float32")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    result = prune_model(model, read_text(Path("data/corpus/calibration.parquet")), method_settings(params))
    masks = read_masks(pruned_project / "data/rounds/r3/masks.safetensors")
    assert all(torch.equal(masks[name], mask) for name, mask in result.masks.items())
    healing = asdict(result.healing)
    assert list(healing.pop("refits")) == read_json(pruned_project / HEALING)
    assert healing.pop("tokens") is None
    assert healing == read_json(pruned_project / "data/pruned/healing.json")
    assert result.history == read_json(pruned_project / "data/rounds/r3/history.json")
    saved = load_model(pruned_project / "data/pruned", "float32").state_dict()
    assert saved.keys() == result.model.state_dict().keys()
    assert all(torch.equal(saved[name], weight) for name, weight in result.model.state_dict().items())
    # What the caller passed in stays as it was.
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.usefixtures("quick_programs")
def test_weights_that_follow_what_was_lost_go_from_round_to_round_through_files(
    project: Callable[..., Path],
) -> None:
    """With dialogues in two parts, which divide the weight of the dialogues between them."""
    mixture = {"news": 2.0, "self": 1.0, "dialogues": 3.0}
    directory = project(mask__reweight=1.0, mask__left_out=1, mixture=mixture)
    rows = read_sequences(directory / "data/corpus/calibration.parquet")
    answers = (False,) * 8 + (True,) * 16
    parts = {"dialogues 1": 4, "dialogues 2": 4}
    talk = [
        replace(rows[place], domain=name, answers=answers) for name in parts for place in range(parts[name])
    ]
    write_sequences(directory / "data/corpus/calibration.parquet", [*rows, *talk], {})
    run_all()
    text = read_text(Path("data/corpus/calibration.parquet"))
    whole = prune_model(load_model(Path("data/model"), "float32"), text, method_settings(read_params()))
    history = read_json(directory / "data/rounds/r3/history.json")
    assert history == whole.history
    first, _, last = (entry["weights"] for entry in history)
    assert first == {"news": 2.0, "self": 1.0, "dialogues 1": 1.5, "dialogues 2": 1.5}
    assert last != first
    assert sum(last.values()) == pytest.approx(6.0)
    saved = load_model(directory / "data/pruned", "float32").state_dict()
    assert all(torch.equal(saved[name], weight) for name, weight in whole.model.state_dict().items())


@pytest.mark.usefixtures("quick_programs")
def test_the_result_has_the_dtype_of_its_source_whatever_is_computed_in(
    project: Callable[..., Path], tmp_path: Path
) -> None:
    directory = project()
    make_tiny_model().bfloat16().save_pretrained("data/model")
    source = (directory / "data/model/model.safetensors").stat().st_size
    run_all()
    weights = load_file(directory / "data/pruned/model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert (directory / "data/pruned/model.safetensors").stat().st_size < source
    config = json.loads((directory / "data/pruned/config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "bfloat16"
