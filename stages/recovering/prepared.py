"""What a recovery needs of the dense model before it trains: its answers, and its distributions on disk."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.evaluation.units import size
from secateurs.inference import head, likeliest, writing
from secateurs.progress import counter
from secateurs.recover import abilities, pairing, teacher_cache
from secateurs.recover.abilities import likeliest_answers
from secateurs.recover.distillation import rows_read
from secateurs.recover.rollouts import from_tensor, to_tensor
from secateurs.recover.teacher_cache import CachedTeacher, bytes_of_sequence, cached_teacher, write_cache
from secateurs.recover.training import Answer, Asked, Questions, Texts
from stages.common.paths import MODEL, PRUNED, RECOVERY_TEXT
from stages.params.file import Params
from stages.recovering.snapshots import SCRATCH, code_files, snapshot_path
from stages.rounds.tensors import read_tensors, write_tensors

ANSWERS = "answers"
Load = Callable[[], PreTrainedModel]


@dataclass(frozen=True)
class Prepared:
    """The dense model or its file, its answers to the questions on abilities, and seconds that they took.

    The loading of the model is not part of them.
    """

    teacher: PreTrainedModel | CachedTeacher
    asked: Asked | None
    seconds: float


def prepared(
    params: Params,
    texts: Texts,
    questions: Questions | None,
    tokenizer: PreTrainedTokenizerBase,
    load: Load,
) -> Prepared:
    """What a recovery needs of the dense model, which is loaded only where something is still to be made.

    What a recovery that was stopped had made is taken where it goes on.
    """
    held, seconds = list[PreTrainedModel](), 0.0

    def dense() -> PreTrainedModel:
        nonlocal seconds
        if not held:
            start = time.monotonic()
            held.append(load())
            seconds -= time.monotonic() - start
        return held[0]

    begun = time.monotonic()
    asked = None
    if questions is not None:

        def decode(ids: Sequence[int]) -> str:
            return str(tokenizer.decode(list(ids), skip_special_tokens=True))

        asked = Asked(_answers(params, questions, dense), questions.ends, decode)
    teacher = _cached(params, texts, dense) if params.recover.teacher == "cached" else dense()
    return Prepared(teacher, asked, seconds + time.monotonic() - begun)


def _answers(params: Params, questions: Questions, dense: Load) -> list[Answer]:
    settings = {
        "abilities": params.recover.abilities.model_dump(exclude={"measure"}),
        "dtype": params.compute.dtype,
        "prompts": [list(prompt) for prompt in questions.prompts],
        "ends": sorted(questions.ends),
    }
    path = snapshot_path(settings, [MODEL, *code_files(abilities, pairing, head, writing)])
    if path.exists():
        return from_tensor(read_tensors(path)[0][ANSWERS])
    answers = likeliest_answers(dense(), questions, params.recover.abilities)
    write_tensors(path, {ANSWERS: to_tensor(answers)}, {})
    return answers


def _cached(params: Params, texts: Texts, dense: Load) -> CachedTeacher:
    # Of several trainings each reads a part of what the longest one reads, in the same order.
    longest = max(params.recover.trainings(), key=lambda training: training.steps)
    rows, count = rows_read(texts, longest), params.recover.cached.likeliest
    settings = {
        "mixture": dict(texts.mixture),
        "left_out": {domain: len(held) for domain, held in texts.left_out.items()},
        "dtype": params.compute.dtype,
        **{name: getattr(longest, name) for name in ("steps", "batch_size", "seed", "micro_batch_size")},
        "trained": {domain: len(held) for domain, held in texts.trained.items()},
        "likeliest": count,
    }
    code = code_files(likeliest, pairing, head, teacher_cache)
    path = snapshot_path(settings, [MODEL, PRUNED, RECOVERY_TEXT, *code]).with_suffix(".likeliest")
    cache = cached_teacher(path, rows, count)
    if not path.exists():
        _check_disk(cache)
        with counter("dense distributions", "sequence", len(cache.places)) as bar:
            write_cache(cache, dense(), params.recover.micro_batch_size, bar.update)
    return cache


def _check_disk(cache: CachedTeacher) -> None:
    """Raise InputError where the file does not fit, what an earlier run wrote of it counted."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    there: Path = cache.path.with_suffix(".begun")
    wanted = len(cache.places) * bytes_of_sequence(cache.tokens, cache.count)
    free = shutil.disk_usage(SCRATCH).free + (there.stat().st_size if there.exists() else 0)
    if wanted > free:
        raise InputError(
            f"params.yaml: recover.teacher: cached: {len(cache.places):,} sequences need {size(wanted)} in "
            f"{SCRATCH}, and {size(free)} are free; lower recover.cached.likeliest: {cache.count}, or set "
            "recover.teacher to live"
        )
