"""Whether data/model is the model that params.yaml names."""

from typing import Any

import yaml

from secateurs.errors import InputError
from secateurs.settings.sources import FileLabel
from stages.common.hashes import LOADER, LOCK
from stages.common.paths import MODEL
from stages.params.file import PARAMS_FILE
from stages.params.yaml_file import read_yaml


def is_in_place() -> bool:
    """Whether data/model was made of what params.yaml names: dvc.lock has what the stage last read."""
    if not (MODEL / "config.json").exists() or not LOCK.exists():
        return False
    wanted = read_yaml(PARAMS_FILE)
    try:
        lock = yaml.load(LOCK.read_text(encoding="utf-8"), LOADER)
        made = lock["stages"]["model"]["params"][str(PARAMS_FILE)]["model"]
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(
            f"{LOCK}: not valid YAML, perhaps a merge that was not finished; restore it by git"
        ) from None
    except (TypeError, KeyError):
        return False
    # What the model card says of a model does not change it.
    return _origin(wanted["model"]) == _origin(made)


def _origin(model: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in model.items() if key not in set(FileLabel.model_fields)}
