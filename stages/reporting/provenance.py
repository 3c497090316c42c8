"""Where a run comes from: the commit, the settings that differ from it, the model, the machine."""

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from secateurs.errors import InputError
from stages.reporting.blocks import Section, Table
from stages.reporting.comparison import flatten
from stages.reporting.metrics import Evidence
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
        ("written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        *_commit(),
    ]
    return Section("Where this comes from", (Table(("what", "value"), rows),))


def _commit() -> list[tuple[str, str]]:
    try:
        commit = subprocess.run(
            ["git", "log", "-1", "--format=%h of %cs"], capture_output=True, text=True, check=True
        ).stdout.strip()
        before = read_commit("HEAD", "").params
    except (subprocess.CalledProcessError, FileNotFoundError, InputError):
        return [("commit", "none: not in a git repository")]
    changed = changes(before, read_workspace().params)
    return [("commit", commit), *(changed or [("settings", "as committed")])]


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings that differ, as (`a.b.c`, `old -> new`)."""
    old, new = flatten(before), flatten(after)
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name, ...) != new.get(name, ...)]
    return [(name, f"{old.get(name, 'none')} -> {new.get(name, 'none')}") for name in names]
