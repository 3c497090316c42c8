"""Stage: the scores of one checkpoint: perplexity, zero-shot accuracy, cost, and a few continuations."""

import gc
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from transformers import PreTrainedModel

from stages.checkpoints.devices import place, resolve_device
from stages.checkpoints.loading import load_model, load_tokenizer
from stages.common.artifacts import read_sequences, write_json
from stages.common.console import stage, summary
from stages.common.params import Params, read_params
from stages.common.paths import BENCHMARKS, EVALUATIONS, HELDOUT
from stages.evaluation.continuation import continue_prompts
from stages.evaluation.cost import measure_size
from stages.evaluation.latency import compare_latency
from stages.evaluation.memory import peak_memory
from stages.evaluation.perplexity import DomainScore, geometric_mean, score_domains
from stages.evaluation.zero_shot import Accuracy, score_tasks

LIBRARIES = ("torch", "transformers", "lm-eval")


@stage
@click.argument("name", type=click.Choice(["dense", "pruned", "recovered"]))
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True, help="Directory to score.")
@click.option("--against", type=click.Path(path_type=Path), help="Directory to compare latencies with.")
def main(name: str, checkpoint: Path, against: Path | None) -> None:
    """Score a checkpoint and write data/evaluations/NAME.json."""
    params = read_params()
    settings = params.evaluate
    rows = read_sequences(HELDOUT)
    dtype, device = params.compute.dtype, params.compute.device
    # Measured first, while this process holds no model that could crowd the other out.
    memory = peak_memory(checkpoint, dtype, device, settings.prompt_tokens, settings.decode_tokens)
    model, tokenizer = place(load_model(checkpoint, dtype), device), load_tokenizer(checkpoint)
    result: dict[str, Any] = {"cost": asdict(measure_size(model, checkpoint)) | {"peak_memory_bytes": memory}}
    if against is not None:
        result["latency"] = _latency(model, place(load_model(against, dtype), device), params)
        gc.collect()
    scores = score_domains(model, tokenizer, rows, settings.batch_size)
    accuracies = score_tasks(
        model, tokenizer, _items(params), settings.limit, settings.seed, settings.batch_size
    )
    result["perplexity"] = _perplexity(scores)
    result["accuracy"] = {task: _accuracy(value) for task, value in accuracies.items()}
    result["samples"] = continue_prompts(model, tokenizer)
    result["settings"] = settings.model_dump() | {
        "dtype": dtype,
        "device": resolve_device(device).type,
        "threads": torch.get_num_threads(),
        "libraries": {library: version(library) for library in LIBRARIES},
    }
    write_json(EVALUATIONS / f"{name}.json", result)
    summary("evaluate", f"{name}: perplexity {geometric_mean(scores):.3f} over {len(scores)} domains")


def _latency(model: PreTrainedModel, other: PreTrainedModel, params: Params) -> dict[str, Any]:
    settings = params.evaluate
    work = (settings.prompt_tokens, settings.decode_tokens, settings.repeats)
    return asdict(compare_latency(model, other, *work))


def _items(params: Params) -> dict[str, Path | None]:
    return {
        task: None if benchmark.source == "stock" else BENCHMARKS / f"{task}.jsonl"
        for task, benchmark in params.benchmarks.items()
    }


def _perplexity(scores: Mapping[str, DomainScore]) -> dict[str, Any]:
    domains = {
        domain: {
            "perplexity": score.perplexity,
            "bits_per_byte": score.bits_per_byte,
            "tokens": score.tokens,
        }
        for domain, score in scores.items()
    }
    return {"geometric_mean": geometric_mean(scores), "domains": domains}


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    return {key: value for key, value in asdict(accuracy).items() if value is not None}


if __name__ == "__main__":
    main()
