"""Text from a data set on the hub, streamed: only what is read is fetched.

The token, where one is needed, comes from the environment (HF_TOKEN), as everywhere in these libraries.
"""

from collections.abc import Iterator
from typing import Any

import datasets
from datasets.exceptions import DatasetsError
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import HfHubHTTPError

from secateurs.errors import SettingError
from secateurs.files.full_disk import FullDiskError, room_for
from secateurs.progress import progress
from secateurs.settings.sources import HubDomain
from secateurs.text.conversations import to_json
from secateurs.text.documents import Document

_UNREADABLE = (OSError, RuntimeError, ValueError, DatasetsError, HfHubHTTPError)


def read_dataset(domain: HubDomain, key: str) -> list[Document]:
    """The first documents of the split with text or messages in `domain.field`, up to `domain.documents`.

    A stream has no known end, so they cannot be spread over it. An id holds the row's place in the split.
    Raises InputError naming the key of params.yaml, below `key`, that is at fault.
    """
    rows = _rows(domain, key)
    found: list[Document] = []
    with progress(range(domain.documents), label="documents", unit="documents") as bar:
        for index, row in enumerate(rows):
            text, chat = _text(row, domain, key)
            if text:
                found.append(Document(f"{domain.id}:{domain.split}:{index}", text, chat))
                bar.update()
            if len(found) == domain.documents:
                break
    return found


def _rows(domain: HubDomain, key: str) -> Iterator[dict[str, Any]]:
    try:
        with room_for(HF_HUB_CACHE):
            loaded = datasets.load_dataset(domain.id, domain.config, revision=domain.revision, streaming=True)
    except FullDiskError:
        raise
    except _UNREADABLE as error:
        # Gated, missing, unknown revision, unknown config: the library's first line says which.
        blamed, value = ("config", domain.config) if type(error) is ValueError else ("id", domain.id)
        raise SettingError(_message(f"{key}.{blamed}: {value}", error)) from None
    if domain.split not in loaded:
        raise SettingError(
            f"{key}.split: {domain.split}: {domain.id} has no such split; "
            f"it has {', '.join(map(str, loaded))}"
        )
    try:
        yield from loaded[domain.split]
    except _UNREADABLE as error:
        raise SettingError(_message(f"{key}.id: {domain.id}", error)) from None


def _message(where: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{where}: cannot be read: {reason}"


def _text(row: dict[str, Any], domain: HubDomain, key: str) -> tuple[str, bool]:
    """The field's text, and whether it is a conversation as JSON."""
    where = f"{key}.field: {domain.field}"
    if domain.field not in row:
        raise SettingError(f"{where}: {domain.id} has no such field; it has {', '.join(row)}")
    text = row[domain.field]
    if isinstance(text, list):
        return to_json(where, text), True
    if not isinstance(text, str | None):
        raise SettingError(f"{where}: holds {type(text).__name__}; it must be text")
    return (text or "").strip(), False
