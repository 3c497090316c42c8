"""DVC as a program that this project calls, and that calls this project's stages."""

import os
import shlex
import subprocess
import sys

from secateurs.errors import InputError


def run_dvc(*arguments: str) -> str:
    """Run `dvc` with these arguments and return what it prints; InputError with its stderr if it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"`{shlex.join(['dvc', *arguments])}` failed: {done.stderr.strip()}")
    return done.stdout


def key_of_stage(given: str | None, name: str) -> str:
    """The key of the `foreach` stage that runs: `given` by hand, or else what DVC says that it runs.

    A key in the command of dvc.yaml would go through a shell before anything could check it. name: what the
    key is, for the InputError where there is none.
    """
    key = given or os.environ.get("DVC_STAGE", "").partition("@")[2]
    if not key:
        raise InputError(f"{name}: not given; `dvc repro` gives it, by hand it is the first argument")
    return key
