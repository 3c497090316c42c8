"""Stage: the dense model, and the masks that remove nothing, where the first round starts."""

from pathlib import Path

from stages import artifacts
from stages.console import stage, summary
from stages.dense import load_dense
from stages.params import DENSE, read_params
from stages.pruning.experts import close_experts, open_experts
from stages.pruning.families import all_kept_masks
from stages.sites import chosen_sites
from stages.tensors import write_masks, write_scores

MODEL = Path("data/model")
ROUND = Path("data/rounds") / DENSE


@stage
def main() -> None:
    """Read the model of params.yaml into data/model, a complete checkpoint; write data/rounds/dense."""
    params = read_params()
    model, tokenizer = load_dense(params.model)
    masks = all_kept_masks(open_experts(model))
    # What is written does not depend on `prune`, so neither does the stage; but what the model's family
    # refuses of it is said here, before text is made and read.
    chosen_sites(model, params.prune)
    close_experts(model)
    with artifacts.atomic(MODEL) as directory:
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    with artifacts.atomic(ROUND) as directory:
        directory.mkdir()
        write_masks(directory / "masks.safetensors", masks)
        write_scores(directory / "scores.safetensors", {name: 0.0 * mask for name, mask in masks.items()})
        artifacts.write_json(directory / "history.json", [])
    parameters = sum(weight.numel() for weight in model.parameters())
    summary("model", f"{model.config.model_type}, {parameters / 1e6:,.1f} M parameters")


if __name__ == "__main__":
    main()
