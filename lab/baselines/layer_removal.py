"""Depth pruning: whole decoder layers are removed, a control that every width method has to beat."""

import math
from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from lab.baselines.walk import Sequences, batches, streams
from secateurs.errors import InputError
from secateurs.families.decoder import decoder_layers
from secateurs.kinds.blocks import KIND as BLOCKS
from secateurs.kinds.sites import cut, finish


def block_influence(model: PreTrainedModel, sequences: Sequences, share: float) -> None:
    """Drop the layers of least influence, 1 - cos(h before, h after): ShortGPT (Men et al. 2024)."""
    influence = influences(model, sequences)
    drop_layers(model, influence.argsort(stable=True)[: layers_to_drop(model, share)].tolist())


def angular(model: PreTrainedModel, sequences: Sequences, share: float) -> None:
    """Drop the consecutive layers over which the stream turns least (Gromov et al. 2024)."""
    count = layers_to_drop(model, share)
    first = int(turns(model, sequences, count).argmin())
    drop_layers(model, list(range(first, first + count)))


def influences(model: PreTrainedModel, sequences: Sequences) -> Tensor:
    """Block influence, 1 - mean over tokens of cos(input, output) of each layer, float64 [layers]."""
    total = torch.zeros(len(decoder_layers(model)), dtype=torch.float64)
    tokens = 0
    for batch in batches(sequences):
        states = streams(model, batch)
        cosines = [F.cosine_similarity(*pair, dim=-1).double().sum() for pair in pairwise(states)]
        total += torch.stack(cosines).cpu()
        tokens += batch.numel()
    return 1 - total / tokens


def turns(model: PreTrainedModel, sequences: Sequences, count: int) -> Tensor:
    """Mean angle / pi between h_l and h_(l + count) at each last token, float64 [layers + 1 - count]."""
    total = torch.zeros(len(decoder_layers(model)) + 1 - count, dtype=torch.float64)
    sequence_count = 0
    for batch in batches(sequences):
        last = [state[:, -1].double() for state in streams(model, batch)]
        pairs = zip(last, last[count:], strict=False)
        cosines = torch.stack([F.cosine_similarity(before, after, dim=-1) for before, after in pairs])
        total += (cosines.clamp(-1, 1).arccos() / math.pi).sum(dim=1).cpu()
        sequence_count += len(batch)
    return total / sequence_count


def layers_to_drop(model: PreTrainedModel, share: float) -> int:
    """The number of layers nearest to `share` of them. Raises InputError where that is none or all."""
    layers = len(decoder_layers(model))
    count = round(share * layers)
    if not 0 < count < layers:
        raise InputError(f"share: {share}: is {count} of {layers} layers; some must go and some stay")
    return count


def drop_layers(model: PreTrainedModel, numbers: Iterable[int]) -> None:
    """Remove decoder blocks in place."""
    masks = {f"{number}/{BLOCKS.name}": torch.tensor([False]) for number in numbers}
    cut(model, masks)
    finish(model, masks)
