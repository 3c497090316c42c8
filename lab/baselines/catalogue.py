"""The baselines: what each is called, which program runs it, and in whose environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Baseline:
    """A method to compare with.

    title: its name in the table. program: the module that runs it. installed: whether it runs in
    the baselines' own environment.
    reads_params: it follows the pruning settings of params.yaml; the others have settings of their own.
    reads_text: it reads calibration text, and not weights alone.
    settings: what it changes in params.yaml, as `a.b: value`; only for one that reads params.
    """

    title: str
    program: str
    installed: bool = False
    reads_params: bool = False
    reads_text: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


def _here(title: str, reads_text: bool = True) -> Baseline:
    return Baseline(title, "lab.baselines.programs.methods", reads_text=reads_text)


BASELINES: Mapping[str, Baseline] = {
    "secateurs": Baseline(
        "Secateurs, default settings", "lab.baselines.programs.secateurs", reads_params=True
    ),
    "secateurs-trained": Baseline(
        "Secateurs, layers trained",
        "lab.baselines.programs.secateurs",
        reads_params=True,
        settings={"surgery.reconstruct.epochs": 4},
    ),
    "optipfair-data": Baseline("optipfair, data-driven", "lab.baselines.programs.optipfair", installed=True),
    "optipfair-static": Baseline(
        "optipfair, static",
        "lab.baselines.programs.optipfair",
        installed=True,
        reads_text=False,
    ),
    "torch-pruning": Baseline(
        "Torch-Pruning, LLM example",
        "lab.baselines.programs.torch_pruning",
        installed=True,
        reads_text=False,
    ),
    "wanda-sp": _here("Wanda-sp"),
    "flap": _here("FLAP"),
    "llm-pruner": _here("LLM-Pruner, Taylor"),
    "gisp": _here("GISP"),
    "magnitude": _here("magnitude", reads_text=False),
    "depth-influence": _here("depth, block influence"),
    "depth-angular": _here("depth, angular distance"),
}
