"""Stage: the dense model, and the masks that remove nothing, where the first round starts."""

from secateurs.checkpoints.dense import add_processor, load_dense
from secateurs.checkpoints.family_proof import check_proved
from secateurs.families.decoder import text_config
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.files.atomic import atomic
from secateurs.files.json_file import write_json
from secateurs.kinds.sites import all_kept_masks, chosen_sites
from secateurs.settings.pruning import AUTO
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import MODEL, ROUNDS
from stages.common.stopwatch import spent
from stages.params.file import read_params
from stages.params.rounds import DENSE
from stages.planning.early_checks import (
    check_context,
    check_early,
    check_template,
    check_vocabulary,
)
from stages.rounds.tensors import write_masks, write_scores

ROUND = ROUNDS / DENSE


@stage
def main() -> None:
    """Read the model of params.yaml into data/model, a complete checkpoint; write data/rounds/dense."""
    params = read_params()
    hold(MODEL)
    check_early(params)
    with spent("load"):
        model, tokenizer = load_dense(params.model, lambda config: check_context(config, params))
    masks = all_kept_masks(open_experts(model))
    # What is written does not depend on `prune`, so neither does the stage; but a kind of site that
    # the model's family refuses is refused here, before text is made and read.
    if params.prune.sites != AUTO:
        chosen_sites(model, params.prune.sites, params.prune.widths, params.prune.width_multiple)
        for name in params.prune.sites:
            check_proved(model.config, name)
    check_vocabulary(tokenizer, text_config(model.config).vocab_size, params.model.name)
    check_template(tokenizer, params)
    close_experts(model)
    with spent("write"), atomic(MODEL) as directory:
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        add_processor(params.model, model.config, directory)
    with atomic(ROUND) as directory:
        directory.mkdir()
        write_masks(directory / "masks.safetensors", masks)
        write_scores(directory / "scores.safetensors", {name: 0.0 * mask for name, mask in masks.items()})
        write_json(directory / "history.json", [])
    parameters = sum(weight.numel() for weight in model.parameters())
    tied = ", embeddings and head in one matrix" if model.config.tie_word_embeddings else ""
    summary("model", f"{model.config.model_type}, {parameters / 1e6:,.1f} M parameters{tied}")


if __name__ == "__main__":
    main()
