"""The settings with what trials chose in the place of `prune.sites: auto`."""

from collections.abc import Mapping
from typing import Any

from secateurs.settings.pruning import NO_TARGET, Prune


def settled(prune: Prune, chosen: Mapping[str, Any]) -> Prune:
    """The settings with what was chosen in the place of `auto`: a Chosen as JSON has it."""
    changes: dict[str, Any] = {
        "sites": list(chosen["sites"]),
        "shares": dict(chosen["shares"]),
        "vocabulary": prune.vocabulary.changed(rows=chosen["rows"]),
    }
    if not chosen["sites"]:
        # Rows of the vocabulary alone meet the target.
        changes |= NO_TARGET
    return prune.changed(**changes)
