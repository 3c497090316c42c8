"""Several processes of one stage, started from within it, when params.yaml has been checked."""

import os
import shlex
import sys

from secateurs.settings.groups import Compute


def launch(compute: Compute, module: str, *arguments: str) -> None:
    """Become the processes that `compute.launch` asks for, each running `module`; one of them, go on.

    No shell takes part. torchrun gives its processes their number, by which they know that they are.
    """
    options = shlex.split(compute.launch)[1:]
    if not options or "WORLD_SIZE" in os.environ:
        return
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *options, "-m", module, *arguments])
