"""DVC as a program that this project calls."""

import shlex
import subprocess
import sys

from stages.common.errors import InputError


def run_dvc(*arguments: str) -> str:
    """Run `dvc` with these arguments and return what it prints; InputError with its stderr if it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"`{shlex.join(['dvc', *arguments])}` failed: {done.stderr.strip()}")
    return done.stdout
