"""Texts that a model writes for its own recovery."""

from functools import partial
from pathlib import Path

from secateurs.settings.recovery import OwnText
from secateurs.text.own import write_plain
from secateurs.text.sampling import go_on
from tests.project import read_yaml
from tests.tiny import make_tiny_model, make_tiny_tokenizer


def test_plain_texts_are_as_many_as_asked_for() -> None:
    model = make_tiny_model().requires_grad_(False)
    settings = OwnText.model_validate(read_yaml()["recover"]["own"] | {"plain": 3, "tokens": 20})
    found = write_plain(partial(go_on, model), make_tiny_tokenizer(), settings, Path("data/model"))
    assert len({document.text for document in found}) == 3
    assert not any(document.chat for document in found)
