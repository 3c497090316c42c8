"""The memory that a recovery is said to need, and the error where it cannot fit."""

import re
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from secateurs.errors import SettingError
from secateurs.evaluation.units import size
from secateurs.recover.memory import PROGRAM, recovery_need, trained_beside
from secateurs.settings.recovery import Abilities
from stages.params.file import Params
from stages.planning.machine import Machine
from stages.planning.recovery_memory import (
    cache_bytes,
    check_recovery_memory,
    recovery_lines,
    recovery_of,
)
from stages.recovering.text import rows_drawn
from tests.kinds.test_experts import mixture
from tests.project import read_yaml
from tests.stages.planning.test_estimate import params
from tests.stages.planning.test_machine import SEVEN, shape
from tests.tiny import make_tiny_model

CARD = Machine("card", torch.device("cuda"), memory=80 * 10**9, free=10**12)


def recovery(weights: str, micro: int = 4, answers: bool = False, rank: int = 64) -> Params:
    how = read_yaml()["recover"]["on_policy"] | ({"share": 0.5} if answers else {})
    changes = {"weights": weights, "micro_batch_size": micro, "on_policy": how}
    return params(
        compute={"dtype": "bfloat16"},
        corpus={"sequence_length": 1024},
        sample={"documents": 400},
        recover=changes | {"low_rank": {"rank": rank, "targets": []}},
    )


def need(params: Params, model: PreTrainedModel, processes: int = 1) -> float:
    return recovery_need(recovery_of(params, "cuda"), model, processes)


def test_what_is_held_by_every_parameter_is_counted() -> None:
    model = make_tiny_model(tie_word_embeddings=False)
    settings = params(prune={"sparsity": 0.25}, recover={"weights": "all"})
    ends = sum(one.numel() for name, one in model.named_parameters() if "layers" not in name)
    decoder = sum(one.numel() for one in model.parameters()) - ends
    # float32 on a CPU: the dense model, the other's ends, five numbers for each weight that is trained.
    held = 4 * (ends + decoder) + 4 * ends + 20 * 0.75 * decoder
    tokens = settings.recover.micro_batch_size * settings.corpus.sequence_length
    active = tokens * 3 * (8 * 32 + 4 * 48) * 4 + 20 * 512 * 258
    found = recovery_need(recovery_of(settings, "cpu"), model)
    assert found == pytest.approx(PROGRAM + 1.1 * (held + active))


@pytest.mark.parametrize("tied", [True, False])
def test_a_dense_model_has_its_whole_head_beside_the_rows_that_are_left(tied: bool) -> None:
    model = make_tiny_model(tie_word_embeddings=tied)
    rows = {"rows": 128, "keep": [], "leave": []}
    settings = params(prune={"sparsity": 0.25, "vocabulary": rows}, recover={"weights": "all"})
    decoder = sum(one.numel() for name, one in model.named_parameters() if "layers" in name)
    embeddings, head, norm = 128 * 32, 258 * 32, 32
    ends = embeddings * (1 if tied else 2) + norm
    held = 4 * (embeddings + head + norm + decoder) + 4 * ends + 20 * 0.75 * decoder
    tokens = settings.recover.micro_batch_size * settings.corpus.sequence_length
    active = tokens * 3 * (8 * 32 + 4 * 48) * 4 + 20 * 512 * 258
    found = recovery_need(recovery_of(settings, "cpu"), model)
    assert found == pytest.approx(PROGRAM + 1.1 * (held + active))


def test_the_parameters_beside_the_weights_are_counted() -> None:
    model = make_tiny_model()
    widths = 2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48)
    assert trained_beside(recovery("low_rank", rank=5).recover, model) == 5 * 3 * widths
    assert trained_beside(recovery("all").recover, model) == 0
    # A factor for each of the inputs of o_proj and down_proj.
    assert trained_beside(recovery("scales").recover, model) == 3 * (32 + 48)


def test_means_in_8_bits_save_nearly_six_bytes_of_every_trained_parameter() -> None:
    model, settings = shape(*SEVEN), recovery("all", micro=1)
    eight = settings.model_copy(update={"recover": settings.recover.changed(optimizer="adamw_8bit")})
    decoder = sum(one.numel() for one in model.model.layers.parameters()) * (1 - 0.2)
    assert need(settings, model) - need(eight, model) == pytest.approx(1.1 * (6 - 8 / 256) * decoder)


def test_seven_billion_fit_one_card_of_80_by_low_rank_and_not_by_all_weights() -> None:
    model = shape(*SEVEN)
    assert need(recovery("low_rank"), model) < 80e9
    assert 120e9 < need(recovery("all", micro=1), model) < 170e9


def test_all_weights_of_seven_billion_fit_two_cards_of_80_with_one_sequence_at_a_time() -> None:
    model, settings = shape(*SEVEN), recovery("all", micro=1)
    two, eight = (need(settings, model, processes) for processes in (2, 8))
    assert eight < two < 80 * 2**30
    check_recovery_memory(settings, model, replace(CARD, memory=80 * 2**30), 2)


SAVING = {"checkpointing": True, "teacher": "cached"}
THIRTY_TWO = (5120, 27_648, 64, (40, 8), False)


def test_seven_billion_fit_a_card_of_24_by_low_rank_and_a_teacher_in_a_file() -> None:
    model, settings = shape(*SEVEN), recovery("low_rank", micro=1)
    small = settings.model_copy(update={"recover": settings.recover.changed(**SAVING)})
    assert need(small, model) < 24e9 < need(settings, model)


def test_one_and_a_half_billion_fit_a_card_of_8_by_the_same() -> None:
    model, settings = shape(1536, 8960, 28, (12, 2), True), recovery("low_rank", micro=1)
    assert need(settings.model_copy(update={"recover": settings.recover.changed(**SAVING)}), model) < 8e9


def test_all_weights_of_32_billion_fit_eight_cards_of_141_and_none_of_80() -> None:
    settings, model = recovery("all", micro=1), shape(*THIRTY_TWO)
    again = settings.model_copy(update={"recover": settings.recover.changed(checkpointing=True)})
    assert 80e9 < need(again, model, 8) < 100e9 < need(settings, model, 8) < 141e9
    assert need(again, model, 16) < 80e9
    large = replace(CARD, memory=141 * 10**9)
    check_recovery_memory(settings, model, large, 8)
    with pytest.raises(SettingError, match=r"needs about [\d.]+ GB of memory at once and card has 141"):
        check_recovery_memory(settings, model, large, 1)


def test_answers_need_room_for_a_copy_and_its_keys() -> None:
    model = shape(*SEVEN)
    for weights in ("low_rank", "all"):
        without, with_answers = (
            need(recovery(weights, micro=1, answers=answers), model) for answers in (False, True)
        )
        assert with_answers > without


def test_the_dense_models_answers_need_room_for_their_keys() -> None:
    model, settings = shape(*SEVEN), recovery("low_rank", micro=1)
    asked = {"questions": 300, "measure": "tokens", "tokens": 2000, "batch_size": 200}
    changed = settings.recover.model_copy(update={"abilities": Abilities(**asked)})
    many = need(settings.model_copy(update={"recover": changed}), model)
    # Keys and values of 28 layers of 4 heads of 128, in bfloat16, in place of what activations take.
    keys = 200 * (settings.sample.dialogues.question.tokens + 2000) * 28 * 2 * 512 * 2
    one = settings.model_copy(update={"recover": changed.changed(abilities=asked | {"batch_size": 100})})
    assert many - need(one, model) == pytest.approx(1.1 * keys / 2)


def test_a_cached_teacher_is_not_in_memory_beside_the_model_in_training() -> None:
    model = shape(*SEVEN)
    live, cached = (
        need(_teacher(recovery("all", micro=1), teacher), model) for teacher in ("live", "cached")
    )
    assert live - cached == pytest.approx(1.1 * 2 * sum(one.numel() for one in model.parameters()))
    # One needs both models' embeddings and head then, and never less than the dense model takes alone.
    low, low_cached = (
        need(_teacher(recovery("low_rank", micro=1, rank=1), teacher), model)
        for teacher in ("live", "cached")
    )
    assert 1.1 * 2 * sum(one.numel() for one in model.parameters()) + PROGRAM < low_cached < low


def test_the_plan_says_how_large_the_file_of_a_cached_teacher_is() -> None:
    settings = _teacher(recovery("scales"), "cached")
    sequences = sum(rows_drawn(settings).values())
    assert cache_bytes(settings) == sequences * (4 + 1024 * (64 * 6 + 4))
    assert cache_bytes(recovery("scales")) == 0
    lines = list(recovery_lines(settings, shape(*SEVEN), CARD))
    assert f"  recover.teacher: cached   {size(cache_bytes(settings)):>10} of disk while it runs" in lines


def _teacher(settings: Params, teacher: str) -> Params:
    changed = settings.recover.model_copy(update={"teacher": teacher})
    return settings.model_copy(update={"recover": changed})


def test_the_plan_says_what_each_choice_needs_and_which_is_set() -> None:
    head, *lines, _two, _eight = recovery_lines(recovery("low_rank"), shape(*SEVEN), CARD)
    assert head == "Memory of a recovery (`make recover`), of 80.0 GB here:"
    named = [re.findall(r"^  recover.weights: (\w+) +[\d.]+ GB", line) for line in lines]
    assert named == [["scales"], ["low_rank"], ["all"]]
    assert [line.endswith("GB, as it is set") for line in lines] == [False, True, False]


def test_routers_are_a_choice_where_there_are_some_and_are_refused_where_there_are_none() -> None:
    lines = "\n".join(recovery_lines(recovery("routers"), mixture(), CARD))
    assert re.search(r"recover.weights: routers +[\d.]+ MB, as it is set", lines)
    # Frozen weights are held as those beside matrices of low rank are.
    routers, matrices = need(recovery("routers"), mixture()), need(recovery("low_rank", rank=1), mixture())
    apart = trained_beside(recovery("low_rank", rank=1).recover, mixture()) - 2 * 8 * 32
    assert matrices - routers == pytest.approx(1.1 * 20 * apart)
    with pytest.raises(SettingError, match=r"^recover\.weights: routers: not for qwen2: no layer has"):
        list(recovery_lines(recovery("routers"), shape(*SEVEN), CARD))


@pytest.mark.parametrize(
    ("settings", "memory", "remedy"),
    [
        (recovery("low_rank", micro=16), 80, r"recover.micro_batch_size: 1 needs \d+.\d GB"),
        (
            recovery("all"),
            80,
            r"recover.weights: low_rank, recover.micro_batch_size: 1, recover.checkpointing: true needs \d",
        ),
        (recovery("all"), 16, r"with all that saves memory it still needs \d+.\d GB; use a larger machine"),
    ],
)
def test_what_cannot_fit_is_one_error_with_the_numbers(settings: Params, memory: int, remedy: str) -> None:
    machine = Machine("card", torch.device("cuda"), memory=memory * 10**9, free=10**12)
    start = f"^recover.weights: {settings.recover.weights}: needs about "
    what = rf"{start}[\d.]+ GB of memory at once and card has {memory}.0 GB; "
    with pytest.raises(SettingError, match=what):
        check_recovery_memory(settings, shape(*SEVEN), machine)
    with pytest.raises(SettingError, match=remedy):
        check_recovery_memory(settings, shape(*SEVEN), machine)


def test_what_fits_is_no_error() -> None:
    check_recovery_memory(recovery("low_rank"), shape(*SEVEN), CARD)
