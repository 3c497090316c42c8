"""Several processes of one stage, started from within it, when params.yaml has been checked."""

import os
import shlex
import sys

from secateurs.settings.groups import Compute


def launch(compute: Compute, module: str, *arguments: str) -> None:
    """Replace this process by those that `compute.launch` asks for, each of which runs `module`.

    Returns at once where only one process is asked for, or where this is already one of several.

    No shell takes part. torchrun gives its processes their number, by which they know that they are.
    """
    options = shlex.split(compute.launch)[1:]
    if not options or "WORLD_SIZE" in os.environ:
        return
    if sys.stdout is not None:
        sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *options, "-m", module, *arguments])
