"""This project's own method at another sparsity, in a process of its own like the other methods."""

import importlib.metadata
from pathlib import Path

from ruamel.yaml import YAML

from lab.baselines.catalogue import BASELINES
from lab.baselines.programs.handover import Request, hand_over, read_request
from lab.study.settings import changed
from secateurs.checkpoints.loading import load_model
from secateurs.checkpoints.saving import save_model
from secateurs.prune import prune_model
from stages.common.calibration import read_text
from stages.common.paths import CALIBRATION
from stages.params.file import PARAMS_FILE, Params, read_params
from stages.params.method import method_settings


def main() -> None:
    """Prune the dense model by params.yaml, with the sparsity and settings that the request asks for."""
    request = read_request()
    params = _settle(request)
    # All calibration text, and not only the rows that healing reads: rounds capture from the rest too.
    text = read_text(Path(request.root) / CALIBRATION)
    model = load_model(Path(request.model), request.dtype)
    pruned = prune_model(model, text, method_settings(params))
    prune = params.prune
    setting = f"{params.mask.metric}, {len(params.chain())} rounds, {prune.widths}, {', '.join(prune.sites)}"
    version = f"secateurs {importlib.metadata.version('secateurs')}"
    hand_over(request, pruned.model, version, setting, save_model)


def _settle(request: Request) -> Params:
    """params.yaml with the sparsity, mixture and settings asked for."""
    yaml, root = YAML(), Path(request.root)
    settings = {**BASELINES[request.baseline].settings, "prune.sparsity": request.share}
    data = changed(yaml.load((root / PARAMS_FILE).read_text(encoding="utf-8")), settings)
    if request.without:
        # A domain of weight 0 enters neither scores nor healing.
        data["mixture"][request.without] = 0.0
    path = Path(request.out) / PARAMS_FILE
    yaml.dump(data, path)
    return read_params(path)


if __name__ == "__main__":
    main()
