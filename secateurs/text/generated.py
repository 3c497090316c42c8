"""The domains of text that the dense model writes itself."""

from collections.abc import Collection
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from secateurs.settings.groups import Sample
from secateurs.settings.sources import DIALOGUE_DOMAIN, SELF_DOMAIN
from secateurs.text.dialogues import write_dialogues
from secateurs.text.documents import Document
from secateurs.text.sampling import Writer, sample_documents
from secateurs.text.turns import NO_DIALOGUES, turns_of


def generate(
    writer: Writer,
    tokenizer: PreTrainedTokenizerBase,
    settings: Sample,
    domains: Collection[str],
    where: Path,
) -> dict[str, list[Document]]:
    """The text of each of the `domains`, which are of params.GENERATED.

    where: the directory the tokenizer is from. Raises InputError where the model's logits are no numbers, and
    for dialogues of a model without a chat template, before anything is written.
    """
    turns = turns_of(tokenizer, where, NO_DIALOGUES) if DIALOGUE_DOMAIN in domains else None
    found = {}
    if SELF_DOMAIN in domains:
        found[SELF_DOMAIN] = sample_documents(writer, tokenizer, settings, where)
    if turns is not None:
        found[DIALOGUE_DOMAIN] = write_dialogues(
            writer,
            tokenizer,
            turns,
            settings.dialogues,
            count=settings.dialogues.count,
            batch_size=settings.batch_size,
            key=str(settings.seed),
        )
    return found
