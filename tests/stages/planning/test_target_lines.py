"""The plan says what a target comes to, and refuses one that the model cannot meet."""

from pathlib import Path
from typing import Any

import pytest

from secateurs.errors import InputError
from secateurs.estimate.memory_needs import memory_needs
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.decoder import decoder_parameters
from secateurs.recover.memory import recovery_need
from stages.params.file import Params
from stages.params.method_settings import method_settings
from stages.planning.architecture import read_shapes
from stages.planning.estimate import estimate_work, reading_of
from stages.planning.recovery_memory import recovery_of
from stages.planning.schedule import schedule
from stages.planning.target_lines import check_budget, target_lines
from tests.kinds.test_experts import mixture
from tests.project import change, read_yaml
from tests.tiny import make_tiny_model

WHOLE = make_tiny_model().num_parameters()
DECODER = sum(weight.numel() for weight in make_tiny_model().model.layers.parameters())


def params(target: dict[str, Any], **changes: Any) -> Params:
    data = change(read_yaml(), {"prune.sparsity": ..., "prune.width_multiple": 1, **changes})
    data["prune"] |= target
    return Params.model_validate(data)


def test_parameters_are_shown_as_a_share_of_the_decoder_and_bytes_on_disk(dense_dir: Path) -> None:
    text = " ".join(target_lines(params({"parameters": WHOLE - 3000}), read_shapes(dense_dir)))
    assert f"prune.parameters: {WHOLE - 3000}: {3000 / DECODER:.1%} of the decoder's parameters go" in text
    assert f"At most {WHOLE - 3000:,} of {WHOLE:,} parameters are left" in text
    assert f"{4 * (WHOLE - 3000) / 1e6:,.1f} MB on disk in float32" in text


def test_bytes_at_another_precision_are_shown_beside_those_on_disk(dense_dir: Path) -> None:
    aim = params({"memory": {"bytes": 2 * (WHOLE - 3000), "precision": "bfloat16"}})
    text = " ".join(target_lines(aim, read_shapes(dense_dir)))
    assert f"{4 * (WHOLE - 3000) / 1e6:,.1f} MB on disk in float32" in text
    assert f"At bfloat16 they take {2 * (WHOLE - 3000) / 1e6:,.1f} MB" in text


@pytest.mark.parametrize("sites", [["mlp"], ["experts"]])
def test_bytes_of_a_mixture_come_to_the_same_everywhere_as_parameters(sites: list[str]) -> None:
    model = mixture()
    aim = model.num_parameters() - 9000
    sizes = {"prune.sites": sites, "prune.width_multiple": 8}
    by_bytes = params({"memory": {"bytes": 4 * aim, "precision": "float32"}}, **sizes)
    by_count = params({"parameters": aim}, **sizes)
    of_bytes, of_count = (target_lines(made, model) for made in (by_bytes, by_count))
    assert f"{9000 / decoder_parameters(model):.1%} of the decoder's" in " ".join(of_bytes)
    assert of_bytes[1:] == of_count[1:]
    assert estimate_work(by_bytes, model) == estimate_work(by_count, model)
    for count in (
        lambda made: memory_needs(model, method_settings(made), reading_of(made), "cpu"),
        lambda made: recovery_need(recovery_of(made, "cpu"), model),
    ):
        assert count(by_bytes) == count(by_count)


def test_multiply_adds_are_shown_beside_those_of_the_dense_model(dense_dir: Path) -> None:
    whole = macs_per_token(make_tiny_model())
    lines = target_lines(params({"multiply_adds": whole - 2880}), read_shapes(dense_dir))
    # Ten channels of each of the three mlps, none of which has a bias; for one multiply-add more, eleven.
    more = target_lines(params({"multiply_adds": whole - 2881}), read_shapes(dense_dir))
    assert f"at most {whole - 11 * 3 * 3 * 32:,} of" in more[2]
    assert f"prune.multiply_adds: {whole - 2880}: {2880 / DECODER:.1%} of the decoder's" in lines[0]
    share = f"{(whole - 2880) / whole:.1%}"
    assert lines[2] == f"A token takes at most {whole - 2880:,} of {whole:,} multiply-adds ({share})."


def test_without_the_model_the_schedule_says_shares_of_what_is_to_go() -> None:
    assert "  dense -> r1: 34.0% of what is to go removed" in schedule(params({"parameters": 9}))


UNREAD = (
    "capture.gradients: true makes a backward pass that mask.metric: wanda does not read; false takes half "
    "of a round's time"
)


@pytest.mark.parametrize(
    ("gradients", "metric", "hints"),
    [(True, "wanda", [f"Hint: {UNREAD}."]), (False, "wanda", []), (True, "taylor", [])],
)
def test_a_backward_pass_that_nothing_reads_is_named(gradients: bool, metric: str, hints: list[str]) -> None:
    made = params({"sparsity": 0.2}, **{"capture.gradients": gradients, "mask.metric": metric})
    assert [line for line in schedule(made) if line.startswith("Hint")] == hints


def test_the_disk_is_that_of_the_target(dense_dir: Path) -> None:
    stages = {
        one.name: one for one in estimate_work(params({"parameters": WHOLE - 3000}), read_shapes(dense_dir))
    }
    assert stages["surgery"].disk == pytest.approx(4 * (WHOLE - 3000))


def test_a_budget_that_the_shapes_cannot_meet_is_refused_before_there_are_weights(dense_dir: Path) -> None:
    with pytest.raises(InputError, match=r"^prune\.parameters: 9: .*nearest"):
        check_budget(params({"parameters": 9}), read_shapes(dense_dir))
