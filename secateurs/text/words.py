"""The words of documents, without the marks of whatever form they come in."""

from collections.abc import Iterable

from secateurs.text.conversations import contents
from secateurs.text.documents import Document


def words_of(documents: Iterable[Document]) -> list[str]:
    """Each text, and of a conversation what each turn says."""
    return [text for item in documents for text in (contents(item.text) if item.chat else [item.text])]
