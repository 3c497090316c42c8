"""Surgery by three processes against surgery by one."""

import pytest
import torch
from torch import Tensor

from secateurs.heal.healed import Healed
from secateurs.heal.layers import HealingText
from secateurs.settings.pruning import Reconstruct, Surgery
from tests import healing
from tests.families.test_families import half_masks
from tests.project import under_torchrun
from tests.tiny import make_tiny_model

# Seven sequences, so that one process of three has more than the others.
IDS = torch.randint(0, 258, (7, 24), generator=torch.Generator().manual_seed(2))
LEFT_OUT = torch.randint(0, 258, (4, 24), generator=torch.Generator().manual_seed(3))
WAYS = {
    "residual": Surgery(heal="residual", alpha=0.7, ridge=0.1),
    "least_squares": Surgery(heal="least_squares", alpha=0.7, ridge=0.1),
    "auto": Surgery(heal="auto", alpha=0.7, ridge=0.1),
    # All sequences in one step, because those of several are drawn by each process from its own.
    "trained": Surgery(
        heal="residual",
        alpha=0.7,
        ridge=0.1,
        reconstruct=Reconstruct(epochs=1, learning_rate=1e-4, batch_size=12),
    ),
}
GROUP = """
import os, pathlib, sys, torch
from secateurs.devices.placement import process_group
from tests.heal.test_surgery_of_a_group import WAYS, healed
with process_group(torch.device("cpu")):
    found = {name: healed(way) for name, way in WAYS.items()}
torch.save(found, pathlib.Path(sys.argv[1]) / os.environ["RANK"])
"""

Result = tuple[Healed, dict[str, Tensor]]


def healed(way: Surgery) -> Result:
    """What healing says, and the healed weights: of six layers, of which two in the middle and the last are
    not cut."""
    model = make_tiny_model(num_hidden_layers=6)
    masks = {
        name: torch.ones_like(mask) if name[0] in "235" else mask
        for name, mask in half_masks(model, ("mlp", "attention")).items()
    }
    text = HealingText({"text": IDS}, {"text": 1.0}, {"text": LEFT_OUT})
    smaller, result = healing.healed(model, masks, way, text, batch_size=2)
    return result, smaller.state_dict()


@pytest.fixture(scope="module")
def by_three(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Result]]:
    folder = tmp_path_factory.mktemp("group")
    script = folder / "group.py"
    script.write_text(GROUP, encoding="utf-8")
    under_torchrun(3, str(script), str(folder))
    return [torch.load(folder / str(rank), weights_only=False) for rank in range(3)]


@pytest.mark.parametrize("way", WAYS)
def test_three_processes_heal_as_one_does(by_three: list[dict[str, Result]], way: str) -> None:
    said, weights = healed(WAYS[way])
    for found in by_three:
        said_by_all, found_weights = found[way]
        assert said_by_all.method == said.method
        assert said_by_all.divergences == pytest.approx(said.divergences, rel=1e-4)
        for refit, expected in zip(said_by_all.refits, said.refits, strict=True):
            assert (refit.layer, refit.site) == (expected.layer, expected.site)
            assert (refit.before, refit.after) == pytest.approx((expected.before, expected.after), rel=1e-5)
        for name, weight in weights.items():
            assert torch.allclose(found_weights[name], weight, atol=2e-5), name


def test_every_process_has_the_same_weights(by_three: list[dict[str, Result]]) -> None:
    for way in WAYS:
        _, first = by_three[0][way]
        for found in by_three[1:]:
            assert all(torch.equal(found[way][1][name], first[name]) for name in first), way
