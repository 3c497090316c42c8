"""The dense model's distributions in a file: its bytes, its reading, and trainings by it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from secateurs.errors import InputError, SettingError
from secateurs.inference.likeliest import likeliest
from secateurs.recover.distillation import recover, rows_read
from secateurs.recover.teacher_cache import CachedTeacher, bytes_of_sequence, cached_teacher, write_cache
from secateurs.recover.training import Course, Snapshot, Texts
from secateurs.settings.recovery import Training
from tests.recover.test_distillation import LEFT_OUT, MIXTURE, SEQUENCES, TRAINING, pruned, stop_and_go_on
from tests.tiny import make_tiny_model

TEXTS = Texts(SEQUENCES, LEFT_OUT, MIXTURE)
ROWS = rows_read(TEXTS, TRAINING)
Step = Callable[[Callable[[], Snapshot]], object]


def cached(path: Path, teacher: PreTrainedModel, count: int = 258) -> CachedTeacher:
    cache = cached_teacher(path, ROWS, count)
    write_cache(cache, teacher, 3, lambda rows: None)
    return cache


def run(
    folder: Path,
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    training: Training = TRAINING,
    snapshot: Snapshot | None = None,
    on_step: Step = lambda take: None,
) -> Course:
    cache = cached(folder / "teacher.likeliest", teacher, 20)
    return recover(student, cache, TEXTS, training, autocast=None, snapshot=snapshot, on_step=on_step)


def test_what_is_read_is_what_the_model_said_to_the_precision_of_the_file(tmp_path: Path) -> None:
    teacher = make_tiny_model().requires_grad_(False)
    cache = cached(tmp_path / "teacher.likeliest", teacher, 20)
    rows = torch.stack([SEQUENCES["news"][4], LEFT_OUT["self"][0]])
    found, said = cache.targets(rows), likeliest(teacher, rows, 20)
    assert torch.equal(found.ids, said.ids)
    # Half of the last of 11 bits of numbers below 16.
    assert torch.allclose(found.log_p, said.log_p, atol=8 * 2**-11, rtol=0)
    assert torch.allclose(found.rest, said.rest, atol=8 * 2**-11, rtol=0)
    whole = found.log_p.double().exp().sum(-1) + found.rest.double().exp()
    assert torch.allclose(whole, torch.ones_like(whole), atol=1e-6)


def test_equal_sequences_stand_once_in_a_file_of_the_size_that_is_told(tmp_path: Path) -> None:
    cache = cached(tmp_path / "teacher.likeliest", make_tiny_model(), 20)
    different = {tuple(row) for row in ROWS.tolist()}
    assert len(cache.places) == len(different) < len(ROWS)
    assert bytes_of_sequence(16, 20) == 4 + 16 * (20 * 6 + 4)
    assert cache.path.stat().st_size == len(different) * bytes_of_sequence(16, 20)
    assert [one.name for one in tmp_path.iterdir()] == ["teacher.likeliest"]


def test_a_file_that_was_begun_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    teacher = make_tiny_model()
    whole = cached(tmp_path / "whole.likeliest", teacher, 20).path.read_bytes()
    cache, size, made = cached_teacher(tmp_path / "other.likeliest", ROWS, 20), bytes_of_sequence(16, 20), []

    def stop(rows: int) -> None:
        made.append(rows)
        if len(made) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cache(cache, teacher, 3, stop)
    begun = tmp_path / "other.begun"
    assert not cache.path.exists()
    assert begun.read_bytes() == whole[: 6 * size]
    # A write that was cut off in the middle.
    begun.write_bytes(whole[: 4 * size + 100])
    made = [0] * 9
    write_cache(cache, teacher, 3, made.append)
    assert (made[9], sum(made)) == (3, len(cache.places))
    assert cache.path.read_bytes() == whole
    assert not begun.exists()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    cache = cached(tmp_path / "teacher.likeliest", make_tiny_model(), 20)
    content = bytearray(cache.path.read_bytes())
    content[40] ^= 1
    cache.path.write_bytes(content)
    with pytest.raises(InputError, match=r"teacher.likeliest: damaged: not as it was written; delete it"):
        cache.targets(ROWS)


def test_more_tokens_than_there_are_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"recover.cached.likeliest: 259: the vocabulary has 258 tokens"):
        cached(tmp_path / "teacher.likeliest", make_tiny_model(), 259)
    assert not [*tmp_path.iterdir()]


def test_with_all_tokens_a_training_is_that_beside_the_model(tmp_path: Path) -> None:
    teacher = make_tiny_model()
    one, other = pruned(teacher), pruned(teacher)
    options = {"autocast": None, "snapshot": None, "on_step": lambda take: None}
    live = recover(one, teacher, TEXTS, TRAINING.changed(steps=2), **options)
    cache = cached(tmp_path / "teacher.likeliest", teacher)
    course = recover(other, cache, TEXTS, TRAINING.changed(steps=2), **options)
    assert course.losses == pytest.approx(live.losses, rel=1e-3)
    assert course.checks[0].divergence == pytest.approx(live.checks[0].divergence, rel=1e-3)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    stop_and_go_on(partial(run, tmp_path), TRAINING, 3)
