"""Stage: text that the dense model writes itself, to recover the pruned one by (optional pipeline)."""

from stages.checkpoints.devices import place
from stages.checkpoints.loading import load_config, load_model, load_tokenizer
from stages.common.artifacts import atomic, write_documents
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.params import read_params
from stages.common.paths import MODEL, OWN_TEXT
from stages.planning.checks import check_own_context
from stages.text.own import turns_of, write_dialogues, write_plain


@stage
def main() -> None:
    """Write data/own: texts and dialogues of data/model, as params.yaml has them under `recover.own`."""
    params = read_params()
    hold(OWN_TEXT)
    own, tokenizer = params.recover.own, load_tokenizer(MODEL)
    check_own_context(load_config(MODEL), params)
    if own.dialogues:
        # A tokenizer without a chat template is refused before anything is written.
        turns_of(tokenizer, MODEL)
    model = place(load_model(MODEL, params.compute.dtype), params.compute.device)
    plain = write_plain(model, tokenizer, own, MODEL) if own.plain else []
    dialogues = write_dialogues(model, tokenizer, own, MODEL) if own.dialogues else []
    with atomic(OWN_TEXT) as directory:
        write_documents(directory / "plain.parquet", plain)
        write_documents(directory / "dialogues.parquet", dialogues)
    summary(
        "own text",
        f"{len(plain)} texts, {len(dialogues)} of {own.dialogues} dialogues came to their end, on "
        f"{model.device.type}",
    )


if __name__ == "__main__":
    main()
