"""What the hub of Hugging Face says of a model before any of it is fetched."""

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # type: ignore[attr-defined]

from secateurs.checkpoints.raw_config import CONFIG
from secateurs.errors import InputError
from secateurs.settings.sources import HubModel

WEIGHTS = ".safetensors"
# After which the hub is taken to be out of reach. transformers asks five times, for half a minute.
SECONDS = 10.0


def hub_bytes(source: HubModel) -> tuple[int | None, bool]:
    """Bytes of a model's weights, None where the hub does not tell; and whether the hub can be reached.

    Raises InputError where it cannot, and its cache does not have the model.
    """
    try:
        found = HfApi().model_info(source.id, revision=source.revision, files_metadata=True, timeout=SECONDS)
    except HfHubHTTPError:
        return None, True
    except HFValidationError as error:
        raise InputError(f"no folder here has this name, and no id on the hub: {error}") from None
    except (OSError, HTTPError):
        if not isinstance(try_to_load_from_cache(source.id, CONFIG, revision=source.revision), str):
            raise InputError(
                "no folder here has this name, and the hub cannot be reached, nor does its cache have it; "
                "give the path of a folder, or connect"
            ) from None
        return None, False
    files = found.siblings or []
    return sum(file.size or 0 for file in files if file.rfilename.endswith(WEIGHTS)) or None, True
