"""A re-implemented method in a process of its own, so that time and memory are measured like a program's."""

from pathlib import Path

from stages.checkpoints import load_model
from stages.devices import place
from stages.modelling import save_model
from stages.peers.depth import angular, block_influence
from stages.peers.programs.handover import hand_over, read_request
from stages.peers.width import METHODS

ALL = {**METHODS, "depth-influence": block_influence, "depth-angular": angular}


def main() -> None:
    """Prune by the method that the request names."""
    request = read_request()
    model = place(load_model(Path(request.model), request.dtype), request.device)
    ALL[request.peer](model, request.sequences(), request.share)
    hand_over(request, model, "re-implemented", "", save_model)


if __name__ == "__main__":
    main()
