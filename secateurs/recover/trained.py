"""What of a model a recovery trains: all of its decoder, small matrices beside it, factors, or routers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import nn
from transformers import PreTrainedModel

from secateurs.recover.low_rank import low_rank
from secateurs.recover.routers import routers
from secateurs.recover.scales import scaled
from secateurs.settings.recovery import Training


@contextmanager
def trained(model: PreTrainedModel, training: Training) -> Iterator[dict[str, nn.Parameter]]:
    """In the context what is trained asks for gradients; when it is left, that is part of the weights."""
    ways: dict[str, Callable[[], AbstractContextManager[dict[str, nn.Parameter]]]] = {
        "all": lambda: nullcontext(trainable(model)),
        "low_rank": lambda: low_rank(model, training.low_rank, training.seed),
        "routers": lambda: routers(model),
        "scales": lambda: scaled(model),
    }
    with ways[training.weights]() as weights:
        for weight in weights.values():
            weight.requires_grad_(True)
        try:
            yield weights
        finally:
            for weight in weights.values():
                weight.requires_grad_(False)


def trainable(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name: the decoder layers' and the final norm's.

    Embeddings and head stay as they are. Pruning left them alone, so they still are the dense model's; and
    the calibration text holds a small part of the vocabulary, while AdamW would move the rows of all
    other tokens as fast, on hardly any gradient. Where the two are tied, they stay so.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    frozen = {id(parameter) for module in ends for parameter in module.parameters()}
    return {name: one for name, one in model.named_parameters() if id(one) not in frozen}


def trained_parameters(model: PreTrainedModel, training: Training) -> int:
    """How many parameters a recovery trains of a model, which stays as it is."""
    with trained(model, training) as weights:
        return sum(weight.numel() for weight in weights.values())
