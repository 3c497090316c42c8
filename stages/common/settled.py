"""params.yaml with the kinds that trials chose, where it has `prune.sites: auto`."""

from secateurs.choose.chosen import settled
from secateurs.errors import InputError
from secateurs.settings.pruning import AUTO
from stages.common.artifacts import read_json
from stages.common.hashes import AGAIN
from stages.common.paths import KINDS
from stages.params.file import Params


def settled_params(params: Params) -> Params:
    """The params with data/kinds.json in the place of `auto`. Raises InputError where that has no kinds."""
    if params.prune.sites != AUTO:
        return params
    chosen = read_json(KINDS)
    if not isinstance(chosen, dict) or chosen.get("sites") is None:
        raise InputError(f"{KINDS}: has no kinds for prune.sites: auto; {AGAIN}")
    return params.changed(prune=settled(params.prune, chosen))
