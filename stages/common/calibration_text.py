"""A split of the corpus as the method takes it."""

from pathlib import Path

from secateurs.text.calibration import by_domain
from secateurs.text.rows import Text
from stages.common.artifacts import read_sequences


def read_text(path: Path) -> Text:
    """The sequences of a split of the corpus, by domain."""
    return by_domain(read_sequences(path))
