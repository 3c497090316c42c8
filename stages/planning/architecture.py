"""The architecture of the model that params.yaml names, before its weights are here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from secateurs.checkpoints.gguf_inventory import take_metadata
from secateurs.checkpoints.gguf_reading import alone, parsed_once
from secateurs.checkpoints.hub_size import hub_bytes
from secateurs.checkpoints.loading import UNREADABLE, unreadable, use_plain_attention
from secateurs.checkpoints.raw_config import check_raw
from secateurs.errors import InputError
from secateurs.families.discover import check_family
from secateurs.families.twins import shapes_of
from secateurs.files.local_files import located
from secateurs.settings.sources import HubModel, PathModel
from stages.common.paths import MODEL
from stages.params.file import PARAMS_FILE


@dataclass(frozen=True)
class Architecture:
    """A model without weights (on the meta device), where its sizes are from, and what is still to fetch.

    download: bytes; None where the source does not say.
    """

    model: PreTrainedModel
    where: str
    download: int | None


def placed_architecture() -> Architecture:
    """The model of data/model. Raises InputError when its config cannot be read."""
    return Architecture(read_shapes(MODEL), str(MODEL), 0)


def configured_architecture(source: HubModel | PathModel) -> Architecture:
    """The model of params.yaml from its config alone; InputError where there is none that can be read."""
    if isinstance(source, HubModel):
        where = f"{PARAMS_FILE}: model.id: {source.id}"
        try:
            download, reached = hub_bytes(source)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        shapes = _shapes(where, source.id, revision=source.revision, local_files_only=not reached)
        return Architecture(shapes, f"the config of {source.id}", download)
    path = located(source.path, "model.path")
    where = f"{PARAMS_FILE}: model.path: {source.path}"
    if not path.exists():
        raise InputError(f"{where}: no such file or directory")
    if path.is_dir():
        return Architecture(_shapes(where, path, local_files_only=True), str(path), 0)
    with alone(path) as folder, parsed_once():
        shapes = _shapes(where, folder, gguf_file=path.name, local_files_only=True)
    return Architecture(shapes, f"the header of {path}", 0)


def read_shapes(checkpoint: Path) -> PreTrainedModel:
    """A checkpoint's model without its weights. Raises InputError when its config cannot be read."""
    return _shapes(str(checkpoint), checkpoint, local_files_only=True)


def _shapes(where: str, name: str | Path, **options: Any) -> PreTrainedModel:
    try:
        if "gguf_file" not in options:
            raw, _ = PreTrainedConfig.get_config_dict(name, **options)
            check_raw(raw)
        config: PreTrainedConfig = AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
        # What cannot be pruned is said now, and not after the download.
        if "gguf_file" in options:
            take_metadata(Path(name) / options["gguf_file"], config)
        check_family(config)
        use_plain_attention(config)
        model = shapes_of(config)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except UNREADABLE as error:
        raise InputError(unreadable(where, error)) from None
    return model
