"""What is measured of how time grows with width, depth and text. Its parts are as in pruning_speed.py."""

from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedModel

from lab.bench.clock import timed
from lab.bench.pruning_speed import HEALING, one_pass, surgery
from lab.bench.setup import Record, Setup
from lab.bench.shapes import SHAPES, random_text
from secateurs.families.decoder import decoder_layers
from secateurs.heal.ridge import Moments, ridge_refit
from secateurs.kinds.channels import output_projection
from secateurs.kinds.sites import sites_of


def growth(setup: Setup) -> Record:
    """How time grows with tokens, depth and mlp width, on a few layers and a small vocabulary.

    A pass has a part that an axis does not touch (the head, say), so the time at size three is held against
    the line through those at sizes one and two: 1 where growth is linear. Surgery's solves, which grow with
    the cube of the width, are timed alone and left out; its k (k + d) products per token are in.
    """
    width, few = SHAPES[setup.shape].intermediate_size, {"num_hidden_layers": 6, "vocab_size": 8192}
    axes: dict[str, Callable[[int], tuple[dict[str, int], int]]] = {
        "tokens": lambda n: (few, n * setup.sequences),
        "depth": lambda n: ({**few, "num_hidden_layers": 3 * n}, setup.sequences),
        "width": lambda n: ({**few, "intermediate_size": n * width // 2}, setup.sequences),
    }
    record: Record = {}
    for axis, at in axes.items():
        for name, run in (("Fisher round", _fisher), ("surgery without its solves", _without_solves)):
            one, two, three = _grown(setup, run, [at(n) for n in (1, 2, 3)])
            record[f"{name} over {axis}, time / linear"] = three / (2 * two - one)
    return record


def _grown(
    setup: Setup, run: Callable[..., float], sizes: list[tuple[dict[str, int], int]]
) -> Iterator[float]:
    """The least seconds of four runs at each size, in turn, so that what slows a machine slows all."""
    times: list[list[float]] = [[] for _ in sizes]
    for _ in range(4):
        for seen, (changes, sequences) in zip(times, sizes, strict=True):
            model = setup.model(**changes)
            ids = random_text(model, sequences, setup.tokens)
            # A device that has just waited runs at higher clocks than one at work.
            _fisher(setup, model, ids[: setup.batch])
            seen.append(run(setup, model, ids))
    return map(min, times)


def _fisher(setup: Setup, model: PreTrainedModel, ids: torch.Tensor) -> float:
    return one_pass(setup, model, sites_of(model, ("mlp",)), ids, True).seconds


def _without_solves(setup: Setup, model: PreTrainedModel, ids: torch.Tensor) -> float:
    healed = surgery(setup, model, ids).seconds
    return healed - len(decoder_layers(model)) * _solve(setup, model)


def _solve(setup: Setup, model: PreTrainedModel) -> float:
    """Seconds that the refit of one layer of a model that was cut takes once its moments are summed."""
    weight = output_projection(model, sites_of(model, ("mlp",))[0]).weight.to(setup.device)
    moments = Moments(weight.shape[1], weight.shape[0], setup.device)
    tokens = 2 * weight.shape[1]
    target, x = (torch.randn(1, tokens, size, device=setup.device) for size in weight.shape)
    moments.add(x, target, 1.0)
    return timed(setup.device, lambda: ridge_refit(moments, weight, HEALING.ridge)).seconds
