"""The estimate counts what the stages do: tokens from params, operations and bytes from shapes."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from secateurs.estimate.auto_sites import standing_in, tried
from secateurs.estimate.work import Work, measure_speed
from stages.params.file import Params
from stages.planning.architecture import read_shapes
from stages.planning.estimate import estimate_work
from tests.families.test_families import tiny
from tests.project import read_yaml
from tests.tiny import make_tiny_model


def params(**groups: dict[str, Any]) -> Params:
    data = read_yaml()
    for group, changes in groups.items():
        data[group] |= changes
    return Params.model_validate(data)


def work(settings: Params, directory: Path) -> dict[str, Work]:
    return {one.name: one for one in estimate_work(settings, read_shapes(directory))}


def test_tokens_are_what_the_stages_read(dense_dir: Path) -> None:
    stages = work(params(), dense_dir)
    # Eight domains with the model's own text, which is never scored.
    assert stages["capture, each round"].tokens == 8 * 5 * 256
    assert stages["capture, each round"].runs == 3
    assert stages["surgery"].tokens == 8 * (22 + 2) * 256
    assert stages["evaluate dense"].tokens == 7 * 8 * 256 + 2 * 40 * 100


def test_a_domain_of_weight_0_is_captured_but_not_healed_by(dense_dir: Path) -> None:
    stages = work(params(mixture={"news": 0.0}), dense_dir)
    assert stages["capture, each round"].tokens == 8 * 5 * 256
    assert stages["surgery"].tokens == 7 * (22 + 2) * 256


def test_the_channels_of_experts_are_counted(tmp_path: Path) -> None:
    tiny("mixtral").save_pretrained(tmp_path)
    stages = work(params(), tmp_path)
    # Four float32 statistics of eight domains, for two layers of four experts with 24 channels.
    assert stages["capture, each round"].disk == 4 * 4 * 8 * 2 * 4 * 24


def test_gradients_double_the_capture_and_its_statistics(dense_dir: Path) -> None:
    with_gradients = work(params(), dense_dir)["capture, each round"]
    without = work(params(capture={"gradients": False}, mask={"metric": "wanda"}), dense_dir)[
        "capture, each round"
    ]
    assert with_gradients.operations == 2 * without.operations
    assert with_gradients.disk == 2 * without.disk


def test_checkpointing_repeats_the_forward_pass(dense_dir: Path) -> None:
    plain = work(params(), dense_dir)["capture, each round"].operations
    repeated = work(params(capture={"checkpointing": True}), dense_dir)["capture, each round"].operations
    assert repeated == 1.5 * plain


def test_statistics_take_what_the_capture_writes(dense_dir: Path) -> None:
    # Four float32 vectors over 48 channels of 3 layers, for 8 domains.
    assert work(params(), dense_dir)["capture, each round"].disk == 8 * 3 * 48 * 4 * 4


def test_without_healing_surgery_reads_nothing(dense_dir: Path) -> None:
    surgery = work(params(surgery={"heal": "none"}), dense_dir)["surgery"]
    assert (surgery.tokens, surgery.operations) == (0, 0.0)


def test_the_choice_of_healing_takes_one_product_more_and_the_text_it_reads(dense_dir: Path) -> None:
    operations = {
        heal: work(params(surgery={"heal": heal}), dense_dir)["surgery"].operations
        for heal in ("residual", "auto")
    }
    # Of 48 channels 38.4 are left, for 32 outputs in each of 3 layers.
    products = 8 * 22 * 256 * 2 * 3 * 0.8 * 48 * 32
    decoder = sum(weight.numel() for weight in make_tiny_model().model.layers.parameters())
    streams = 8 * 2 * 256 * 3 * 2 * decoder
    assert operations["auto"] == pytest.approx(operations["residual"] + products + streams)


def test_trials_capture_once_heal_by_fewer_sequences_and_score_what_is_left_out(dense_dir: Path) -> None:
    settings = params(prune={"sites": "auto"}, surgery={"heal": "residual"})
    model = read_shapes(dense_dir)
    options = tried(settings.prune, settings.mask.metric, model)
    trials = sum(map(len, options.decoder.values()))
    settings = settings.changed(prune=standing_in(settings.prune, options))
    stages = {one.name: one for one in estimate_work(settings, model, options)}
    # 8 of the 22 sequences that surgery heals by, and 2 left-out ones of each of eight domains.
    judged = (trials + len(options.rows) + 1) * 8 * 2 * 256
    assert stages["kinds"].tokens == 8 * 5 * 256 + trials * 8 * 8 * 256 + judged
    capture, surgery = stages["capture, each round"].operations, stages["surgery"].operations
    scored = stages["evaluate dense"].operations / stages["evaluate dense"].tokens * judged
    assert stages["kinds"].operations == pytest.approx(capture + trials * surgery * 8 / 22 + scored)
    assert "kinds" not in work(settings, dense_dir)


def test_the_pruned_weights_are_smaller_by_the_sparsity(dense_dir: Path) -> None:
    stages = work(params(prune={"sparsity": 0.5}), dense_dir)
    decoder = sum(weight.numel() for weight in make_tiny_model().model.layers.parameters())
    assert stages["model"].disk - stages["surgery"].disk == 0.5 * decoder * 4


def test_the_speed_is_that_of_this_machine() -> None:
    speed = measure_speed(torch.device("cpu"), "float32", 0.1)
    left = torch.ones(2048, 2048)
    start = time.perf_counter()
    left @ left
    # Within a factor of five of a product timed here: machines are shared, but not that much.
    assert 0.2 < speed * (time.perf_counter() - start) / (2 * 2048**3) < 5
