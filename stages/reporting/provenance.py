"""Where a run comes from: the settings that differ from the commit's, the model, the machine."""

import subprocess
from collections.abc import Mapping
from typing import Any

from secateurs.errors import InputError
from stages.reporting.comparison import flatten
from stages.reporting.metrics import Evidence
from stages.reporting.page_parts import Section, Table
from stages.reporting.revision import read_commit, read_workspace


def provenance(origin: str, evidence: Evidence) -> Section:
    """The facts that somebody needs to get the same figures again.

    origin: what the dense model was read from. Commit and settings are those of the working directory now.
    """
    settings = evidence.pruned["settings"]
    libraries = ", ".join(f"{name} {version}" for name, version in settings.get("libraries", {}).items())
    threads = f", {settings['threads']} threads" if settings["device"] == "cpu" else ""
    rows = [
        ("dense model", origin),
        ("evaluated on", f"{settings.get('machine', settings['device'])}{threads}, {settings['dtype']}"),
        ("libraries", libraries or "not recorded"),
        *_settings(),
    ]
    return Section("Where this comes from", (Table(("what", "value"), rows, numbers=False),))


def _settings() -> list[tuple[str, str]]:
    """How params.yaml differs from the commit's. No date, so that the same run gives the same page."""
    try:
        before = read_commit("HEAD", "").params
    except (subprocess.CalledProcessError, FileNotFoundError, InputError):
        return [("settings", "params.yaml, in no git repository")]
    return changes(before, read_workspace().params) or [
        ("settings", "params.yaml as committed with this page")
    ]


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings that differ, as (`a.b.c`, `old -> new`)."""
    old, new = flatten(before), flatten(after)
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name, ...) != new.get(name, ...)]
    return [(name, f"{old.get(name, 'none')} -> {new.get(name, 'none')}") for name in names]
