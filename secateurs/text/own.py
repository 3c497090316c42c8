"""Texts that a model writes for its own recovery."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from secateurs.families.boundaries import start
from secateurs.settings.recovery import OwnText
from secateurs.text.documents import Document
from secateurs.text.sampling import Draw, Lots, Writer


def write_plain(
    writer: Writer, tokenizer: PreTrainedTokenizerBase, settings: OwnText, where: Path
) -> list[Document]:
    """`settings.plain` texts of `settings.tokens` tokens each; not those of the sample stage."""
    written = writer(
        [[start(tokenizer, where)]] * settings.plain,
        settings.tokens,
        Draw(settings.temperature),
        Lots(f"texts:{settings.seed}", settings.batch_size),
        label="texts",
    )
    texts = tokenizer.batch_decode(written, skip_special_tokens=False)
    return [Document(f"text-{number}", text) for number, text in enumerate(texts)]
