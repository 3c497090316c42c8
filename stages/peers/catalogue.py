"""The peers: what each is called, which program runs it, and in whose environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Peer:
    """title: its name in the table; program: the module that runs it; installed: in the peers' environment.

    reads_params: it follows the pruning settings of params.yaml, which the others know nothing of.
    reads_text: it goes by calibration text, and not by weights alone.
    settings: what it changes in params.yaml, where it reads that, as `a.b: value`.
    """

    title: str
    program: str
    installed: bool = False
    reads_params: bool = False
    reads_text: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


def _here(title: str, reads_text: bool = True) -> Peer:
    return Peer(title, "stages.peers.programs.methods", reads_text=reads_text)


PEERS: Mapping[str, Peer] = {
    "secateurs": Peer("Secateurs, default settings", "stages.peers.programs.secateurs", reads_params=True),
    "secateurs-trained": Peer(
        "Secateurs, layers trained",
        "stages.peers.programs.secateurs",
        reads_params=True,
        settings={"surgery.reconstruct.epochs": 4},
    ),
    "optipfair-data": Peer("optipfair, data-driven", "stages.peers.programs.optipfair", installed=True),
    "optipfair-static": Peer(
        "optipfair, static", "stages.peers.programs.optipfair", installed=True, reads_text=False
    ),
    "torch-pruning": Peer(
        "Torch-Pruning, LLM example", "stages.peers.programs.torch_pruning", installed=True, reads_text=False
    ),
    "wanda-sp": _here("Wanda-sp"),
    "flap": _here("FLAP"),
    "llm-pruner": _here("LLM-Pruner, Taylor"),
    "gisp": _here("GISP"),
    "magnitude": _here("magnitude", reads_text=False),
    "depth-influence": _here("depth, block influence"),
    "depth-angular": _here("depth, angular distance"),
}
