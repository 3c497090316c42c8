"""The files by which a model that also reads pictures prepares them: they go with it as they are."""

import shutil
from pathlib import Path

from transformers.utils.hub import cached_file

FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "image_processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)


def copy_processor(source: str | Path, directory: Path, revision: str | None = None) -> None:
    """Copy those that a checkpoint has, a folder or a repository on the hub, beside a model in `directory`.

    What is there already, such as a chat template that the tokenizer has saved, stays.
    """
    for name in FILES:
        found = cached_file(
            source,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=False,
        )
        if found is not None and not (directory / name).exists():
            shutil.copyfile(found, directory / name)
