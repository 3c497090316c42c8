"""Models cut and healed as tests do it: a copy, on the CPU, by a few sequences."""

import copy

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.heal.healed import Healed
from secateurs.heal.layers import HealingText, cut_and_heal
from secateurs.settings.pruning import Surgery

CPU = torch.device("cpu")
IDS = torch.randint(0, 258, (6, 24), generator=torch.Generator().manual_seed(2))
TEXT = HealingText({"text": IDS}, {"text": 1.0})


def healed(
    model: PreTrainedModel,
    masks: dict[str, Tensor],
    surgery: Surgery,
    text: HealingText = TEXT,
    batch_size: int = 4,
    device: torch.device = CPU,
) -> tuple[PreTrainedModel, Healed]:
    """A copy of the model that was cut and healed, and what healing says; the model stays as it is."""
    smaller = open_experts(copy.deepcopy(model).requires_grad_(False))
    options = {"device": device, "batch_size": batch_size, "on_layer": lambda: None}
    done = cut_and_heal(smaller, masks, text, surgery, **options)
    return close_experts(smaller), done


@torch.no_grad()
def error(model: PreTrainedModel, dense: PreTrainedModel, ids: Tensor = IDS) -> float:
    """The mean squared error of the last hidden state on the healing text."""
    one, other = (each.base_model(ids).last_hidden_state for each in (model, dense))
    return float((one - other).square().mean())
