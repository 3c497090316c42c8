"""Which Python has vLLM, and which version; found without importing it, or anything large."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from secateurs.errors import SettingError

REMEDY = (
    "`python -m pip install vllm` in an environment of its own and give its Python as compute.vllm_python, "
    "or set sample.engine: ours"
)
# The package that has the module `vllm` may have another name: builds for CPUs do.
_PROBE = (
    "import importlib.metadata as m; names = m.packages_distributions().get('vllm'); "
    "print('vllm', m.version(names[0]) if names else '')"
)


@dataclass(frozen=True)
class Installed:
    """A Python that has vLLM, and which version."""

    python: str
    version: str


@cache
def find_vllm(python: str | None) -> Installed:
    """vLLM of a Python by its path, or of this one for None. Raises SettingError where there is none."""
    named = python or sys.executable
    try:
        probe = subprocess.run([named, "-c", _PROBE], capture_output=True, text=True, check=False)
    except OSError as error:
        raise SettingError(
            f"compute.vllm_python: {named}: cannot be run ({error.strerror}); {REMEDY}"
        ) from None
    word, _, version = probe.stdout.strip().partition(" ")
    if word != "vllm":
        raise SettingError(f"compute.vllm_python: {named}: not a Python of 3.10 or later; {REMEDY}")
    if not version:
        raise SettingError(f"sample.engine: vllm: {named} has no vLLM; {REMEDY}")
    return Installed(named, version)
