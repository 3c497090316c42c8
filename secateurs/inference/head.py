"""A causal language model in two parts: its body, which ends in hidden states, and the head over them."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from secateurs.families.decoder import layers_name

# Where probabilities end before they are 0, whose logarithm is no number.
_LEAST = torch.finfo(torch.float32).tiny


def body_of(model: PreTrainedModel) -> nn.Module:
    """All of a model but its head."""
    return model.get_submodule(_body_name(model))


def hidden_states(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """What the head reads after each of int64 [batch, tokens]: [batch, tokens, d], in the model's dtype."""
    hidden: Tensor = body_of(model)(input_ids=input_ids, use_cache=False).last_hidden_state
    return hidden


def head_logits(model: PreTrainedModel, device: torch.device | None = None) -> Callable[[Tensor], Tensor]:
    """The head: takes hidden states [..., d], gives float32 logits [..., vocabulary].

    It is what the model's class does after its body, whatever that is: families scale hidden states or
    logits, cap them, or have layers between. device: where a copy of the head computes; None: the model's
    own head where it is. Of a model whose head is folded (`fold_head`) it is that one.
    """
    own = model.get_output_embeddings()
    return own if isinstance(own, FoldedHead) else _Head(model, device)


def folded(p: Tensor, first: Tensor, left: int) -> Tensor:
    """p'(s) = sum of p(t) over the tokens t whose first piece is s.

    p: [..., V], probabilities. first: int64 [V], each token's first piece among the `left` that there are; -1
    for rows that are no token's, whose probability is left out. Returns [..., left].
    """
    # Those rows are added up past the others.
    places = first.masked_fill(first < 0, left)
    sums: Tensor = p.new_zeros(*p.shape[:-1], left + 1).index_add_(-1, places, p)
    return sums[..., :left]


class FoldedHead(nn.Module):
    """Logits log p' (`folded`) over fewer tokens than the head that it is made of has.

    Their softmax divides the probability of rows that are no token's among all. It stands for all that its
    model's class does after the body, so ask head_logits for the logits, not the model's own forward pass.
    """

    first: Tensor

    def __init__(self, head: "_Head", first: Tensor) -> None:
        super().__init__()
        self.head, self.left = head, int(first.max()) + 1
        self.register_buffer("first", first, persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., d] to float32 [..., n]."""
        p = self.head(hidden).softmax(dim=-1)
        return folded(p, self.first, self.left).clamp_min_(_LEAST).log_()


def fold_head(model: PreTrainedModel, first: Tensor, cut: Callable[[], None]) -> None:
    """Give a model, in place, its own head folded. cut: what makes its vocabulary smaller, run between."""
    head = _Head(model, model.get_output_embeddings().get_parameter("weight").device, copied=True)
    cut()
    model.set_output_embeddings(FoldedHead(head, first))


class _Head(nn.Module):
    """The model without its body: its class runs with a module in the body's place that gives hidden states.

    copied: whether the head's weights are held a second time, as they are where they move to a `device`.
    """

    def __init__(self, model: PreTrainedModel, device: torch.device | None, copied: bool = False) -> None:
        super().__init__()
        name = _body_name(model)
        # Another object of the same class, which shares all but its list of modules and what is copied.
        shell = copy.copy(model)
        moved = device is not None and device != model.get_output_embeddings().weight.device
        for kind in ("_modules", "_parameters", "_buffers"):
            held = {key: value for key, value in vars(model)[kind].items() if key != name}
            if copied or moved:
                held = {key: _copied(value, device) for key, value in held.items()}
            vars(shell)[kind] = held
        if copied:
            # Some classes cut logits to the vocabulary that their config names.
            shell.config = copy.deepcopy(model.config)
        shell._modules[name] = _Given(body_of(model))
        self.shell, self.stand_in = shell, name
        names = inspect.signature(type(model).forward).parameters
        self.argument = "inputs_embeds" if "inputs_embeds" in names else "input_ids"

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., d] to float32 [..., vocabulary]."""
        rows = hidden.reshape(1, hidden.shape[:-1].numel(), hidden.shape[-1])
        given: Any = self.shell.get_submodule(self.stand_in)
        given.hidden = rows
        try:
            # Of the class, because what is hooked to the model is meant for passes through all of it.
            output = type(self.shell).forward(self.shell, **{self.argument: rows}, use_cache=False)
        finally:
            given.hidden = None
        logits: Tensor = output.logits.float()
        return logits.view(*hidden.shape[:-1], logits.shape[-1])


class _Given(nn.Module):
    """In a body's place: returns `hidden`, whatever it is called with."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        # Beside the modules, so that the body is not part of the head.
        object.__setattr__(self, "body", body)
        self.hidden: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        # Some classes call a decoder inside their body, or read a number of it.
        if isinstance(getattr(self.body, name), nn.Module):
            return self
        return getattr(self.body, name)

    def forward(self, *_: Any, **__: Any) -> "_Hidden":
        return _Hidden(last_hidden_state=self.hidden)


class _Hidden(BaseModelOutput):
    """An output of a body that has hidden states alone: None for whatever else is read of it."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _copied(value: Any, device: torch.device | None) -> Any:
    return None if value is None else copy.deepcopy(value).to(device)


def _body_name(model: PreTrainedModel) -> str:
    """The name of a model's body: the one that its class declares, or else of what has its decoder layers."""
    declared: str = model.base_model_prefix
    return declared if declared in model._modules else layers_name(model).partition(".")[0]
