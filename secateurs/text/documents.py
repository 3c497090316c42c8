"""What text is handed on as: documents of a domain, and the sequences that a corpus packs them into."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """A piece of text and the id by which it is split; chat: the text is a conversation as JSON."""

    document: str
    text: str
    chat: bool = False


@dataclass(frozen=True)
class Sequence:
    """A row of the corpus: `input_ids` has exactly the corpus's sequence length.

    answers: of a row of the model's own dialogues, which of its tokens are answers; empty for other text.
    """

    domain: str
    documents: tuple[str, ...]
    input_ids: tuple[int, ...]
    answers: tuple[bool, ...] = ()
