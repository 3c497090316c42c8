"""What a stage reads, against what dvc.lock says that an earlier stage wrote.

DVC hands out what is in its cache unread, so that a file which was damaged there would pass for whole.
"""

import functools
import hashlib
import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.errors import InputError

LOCK = Path("dvc.lock")
# A stage that is forced makes its output anew.
AGAIN = "delete it and run the stage that writes it with `dvc repro --force --single-item STAGE`"


def check_hash(path: Path) -> None:
    """Raise InputError where DVC runs this stage and a file is not the one in dvc.lock.

    Only files that are an output by themselves are looked at, and none that this stage itself writes, because
    dvc.lock has those of its last run. By hand, a stage reads what is there.
    """
    running = os.environ.get("DVC_STAGE", "")
    if not running or not path.is_file():
        return
    told = _outputs(running).get(path.as_posix())
    if told is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != told:
        raise InputError(
            f"{path}: its md5 is {found}, and {LOCK} says {told}: damaged in DVC's cache, or changed by "
            f"hand; {AGAIN}"
        )


@functools.cache
def _outputs(running: str) -> dict[str, str]:
    """The md5 of every file that is an output of another stage than `running`, by its path."""
    try:
        lock: Any = YAML(typ="safe").load(LOCK.read_text(encoding="utf-8"))
        stages = dict(lock["stages"])
        stages.pop(running, None)
        outs = [out for stage in stages.values() for out in stage.get("outs", [])]
        # Older versions of DVC hashed text with its line ends changed, and did not name the hash.
        return {out["path"]: out["md5"] for out in outs if out.get("hash") == "md5"}
    except (OSError, UnicodeDecodeError, YAMLError, TypeError, KeyError, ValueError, AttributeError):
        # No run yet, or one that is being written down: DVC says what is wrong with it.
        return {}
