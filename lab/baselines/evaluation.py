"""A checkpoint's scores, by the code of the evaluate stage."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from transformers import PreTrainedModel

from lab.baselines.records import Record
from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.devices.placement import place
from secateurs.evaluation.cost import measure_size
from secateurs.evaluation.latency import compare_latency
from secateurs.evaluation.perplexity import geometric_mean, score_domains
from secateurs.evaluation.zero_shot import score_tasks
from secateurs.text.documents import Sequence
from stages.common.asking import asking_of
from stages.params.file import Params


def evaluate(
    directory: Path,
    dense: PreTrainedModel,
    rows: list[Sequence],
    benchmarks: Mapping[str, Path | None],
    params: Params,
) -> Record:
    """Score a checkpoint as the evaluate stage does; latency is the ratio to the dense model's.

    Raises InputError where it cannot be loaded or its losses are not finite.
    """
    settings = params.evaluate
    model = place(load_model(directory, params.compute.dtype), params.compute.device)
    tokenizer = load_tokenizer(directory)
    work = (settings.prompt_tokens, settings.decode_tokens, settings.repeats)
    scores = score_domains(model, tokenizer, rows, settings.batch_size)
    tasks = score_tasks(model, tokenizer, benchmarks, asking_of(settings))
    return {
        "perplexity": {
            "geometric_mean": geometric_mean(scores),
            "domains": {domain: {"perplexity": score.perplexity} for domain, score in scores.items()},
        },
        "accuracy": {task: score.record() for task, score in tasks.items()},
        "cost": asdict(measure_size(model, directory)),
        "latency": asdict(compare_latency(model, dense, *work).ratio),
    }
