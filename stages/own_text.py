"""Stage: text that the dense model writes itself, to recover the pruned one by (optional pipeline)."""

from secateurs.devices.placement import resolve_device
from secateurs.files.atomic import atomic
from secateurs.text.dialogues import write_dialogues
from secateurs.text.own import write_plain
from secateurs.text.turns import NO_OWN_DIALOGUES, turns_of
from stages.common.artifacts import write_documents
from stages.common.checkpoints import load_config, load_tokenizer
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.own_writer import own_writer, written_by
from stages.common.paths import MODEL, OWN_TEXT
from stages.params.file import read_params
from stages.planning.architecture import read_shapes
from stages.planning.early_checks import check_own_context
from stages.planning.machine import this_machine
from stages.planning.recovery_memory import check_recovery_memory


@stage
def main() -> None:
    """Write data/own: texts and dialogues of data/model, as params.yaml has them under `recover.own`.

    How a dialogue is written is under `sample.dialogues`.
    """
    params = read_params()
    hold(OWN_TEXT)
    own, tokenizer = params.recover.own, load_tokenizer(MODEL)
    device = resolve_device(params.compute.device)
    check_own_context(load_config(MODEL), params)
    check_recovery_memory(params, read_shapes(MODEL), this_machine(device))
    # A tokenizer without a chat template is refused before anything is written.
    turns = turns_of(tokenizer, MODEL, NO_OWN_DIALOGUES) if own.dialogues else None
    plain, dialogues = [], []
    with own_writer(params, own.batch_size) as writer:
        if own.plain:
            plain = write_plain(writer, tokenizer, own, MODEL)
        if turns is not None:
            dialogues = write_dialogues(
                writer,
                tokenizer,
                turns,
                params.sample.dialogues,
                count=own.dialogues,
                batch_size=own.batch_size,
                key=f"recovery:{own.seed}",
            )
    facts = written_by(params, own.seed)
    with atomic(OWN_TEXT) as directory:
        write_documents(directory / "plain.parquet", plain, facts)
        write_documents(directory / "dialogues.parquet", dialogues, facts)
    summary(
        "own text",
        f"{len(plain)} texts, {len(dialogues)} of {own.dialogues} dialogues came to their end, on "
        f"{device.type}",
    )


if __name__ == "__main__":
    main()
