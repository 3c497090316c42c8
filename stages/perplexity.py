"""Stage: how well a checkpoint predicts held-out text, and what it writes after a few prompts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from secateurs.devices.placement import place
from secateurs.evaluation.circumstances import circumstances
from secateurs.evaluation.perplexity import DomainScore, geometric_mean, score_domains
from secateurs.files.json_file import write_json
from secateurs.inference.continuation import continue_prompts
from stages.common.artifacts import read_sequences
from stages.common.checkpoints import load_model, load_tokenizer
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import EVALUATIONS, HELDOUT, MODEL
from stages.params.file import read_params


@stage
@click.argument("name", type=click.Choice(["dense", "pruned", "recovered"]))
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True, help="Directory to score.")
def main(name: str, checkpoint: Path) -> None:
    """Score a checkpoint on data/corpus/heldout.parquet and write data/evaluations/NAME/perplexity.json."""
    params = read_params()
    hold(EVALUATIONS / name / "perplexity.json")
    rows = read_sequences(HELDOUT)
    dtype, device = params.compute.dtype, params.compute.device
    model, tokenizer = place(load_model(checkpoint, dtype), device), load_tokenizer(checkpoint)
    # A model with fewer tokens reads the same text.
    scores = score_domains(model, tokenizer, rows, params.evaluate.batch_size, load_tokenizer(MODEL))
    result = {
        "perplexity": _record(scores),
        "samples": continue_prompts(model, tokenizer),
        "settings": circumstances(dtype, device),
    }
    write_json(EVALUATIONS / name / "perplexity.json", result)
    summary("perplexity", f"{name}: {geometric_mean(scores):.3f} over {len(scores)} domains")


def _record(scores: Mapping[str, DomainScore]) -> dict[str, Any]:
    domains = {
        domain: {
            "perplexity": score.perplexity,
            "bits_per_byte": score.bits_per_byte,
            "tokens": score.tokens,
        }
        for domain, score in scores.items()
    }
    return {"geometric_mean": geometric_mean(scores), "domains": domains}


if __name__ == "__main__":
    main()
