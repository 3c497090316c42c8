"""A re-implemented method in a process of its own, so that time and memory are measured like a program's."""

from pathlib import Path

from lab.baselines.biases import check_biases
from lab.baselines.depth import angular, block_influence
from lab.baselines.programs.handover import hand_over, read_request
from lab.baselines.width import METHODS
from secateurs.checkpoints.loading import load_model
from secateurs.checkpoints.saving import save_model
from secateurs.devices.placement import place

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
