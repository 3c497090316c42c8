"""A re-implemented method in a process of its own, so that time and memory are measured like a program's."""

from pathlib import Path

from stages.checkpoints.devices import place
from stages.checkpoints.loading import load_model
from stages.checkpoints.saving import save_model
from stages.experiments.baselines.biases import check_biases
from stages.experiments.baselines.depth import angular, block_influence
from stages.experiments.baselines.programs.handover import hand_over, read_request
from stages.experiments.baselines.width import METHODS

ALL = {**METHODS, "depth-influence": block_influence, "depth-angular": angular}


def main() -> None:
    """Prune by the method that the request names."""
    request = read_request()
    model = place(load_model(Path(request.model), request.dtype), request.device)
    if request.baseline == "flap":
        check_biases(model)
    ALL[request.baseline](model, request.sequences(), request.share)
    hand_over(request, model, "re-implemented", "", save_model)


if __name__ == "__main__":
    main()
