"""The bytes of weights in a file, by one function for the budget, the checkpoint and the GGUF file."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import torch
from transformers import PreTrainedModel

from secateurs.families.decoder import decoder_layers
from secateurs.families.discover import family_of
from secateurs.kinds.kind import Site
from secateurs.kinds.sites import chosen_sites
from secateurs.settings.pruning import Prune


@dataclass(frozen=True)
class Format:
    """How rows of weights are stored: a `block` of successive weights takes `bytes`, scales included."""

    bytes: int
    block: int = 1


FORMATS = {
    "f32": Format(4),
    "f16": Format(2),
    "bf16": Format(2),
    "q8_0": Format(34, 32),
    "q5_1": Format(24, 32),
    "q5_0": Format(22, 32),
    "q4_1": Format(20, 32),
    "q4_0": Format(18, 32),
}
# What stores rows that are no whole number of blocks.
WHOLE = "f32"

# By precision: the format of matrices, of embeddings and head, and of norms and biases. Below 8 bits the
# embeddings stay finer, as llama.cpp's own program keeps them: they are read, not multiplied, and errors in
# the head are errors in every token.
Formats = tuple[str, str, str]
_BLOCKS: dict[str, Formats] = {
    "q8_0": ("q8_0", "q8_0", "f32"),
    "q5_1": ("q5_1", "q8_0", "f32"),
    "q5_0": ("q5_0", "q8_0", "f32"),
    "q4_1": ("q4_1", "q8_0", "f32"),
    "q4_0": ("q4_0", "q8_0", "f32"),
}
# What a budget of bytes may name: the dtypes of a checkpoint, and the formats with blocks of a GGUF file.
PRECISIONS: dict[str, Formats] = {
    "float32": ("f32", "f32", "f32"),
    "bfloat16": ("bf16", "bf16", "bf16"),
    "float16": ("f16", "f16", "f16"),
    **_BLOCKS,
}
# What a GGUF file is written in, where llama.cpp keeps norms and biases whole.
GGUF_PRECISIONS: dict[str, Formats] = {
    "f32": ("f32", "f32", "f32"),
    "f16": ("f16", "f16", "f32"),
    "bf16": ("bf16", "bf16", "f32"),
    **_BLOCKS,
}


def stored_format(
    shape: Sequence[int], formats: Formats, vocabulary: bool = False, small: bool = False
) -> str:
    """The key of FORMATS in which a tensor is stored.

    vocabulary: it is of the embeddings or the head; small: a matrix that is kept as norms and biases are, a
    router's. A matrix whose rows are no whole number of blocks is stored as WHOLE.
    """
    matrices, ends, others = formats
    wanted = ends if vocabulary else others if small or len(shape) < 2 else matrices
    return wanted if shape[-1] % FORMATS[wanted].block == 0 else WHOLE


def tensor_bytes(shape: Sequence[int], form: str) -> int:
    """Weights / weights of a block * bytes of a block, of a tensor stored in a format, a key of FORMATS."""
    return prod(shape) // FORMATS[form].block * FORMATS[form].bytes


def weight_bytes(model: PreTrainedModel, precision: str, rows: int = 0) -> int:
    """Bytes that the weights of a model take at a precision, a key of PRECISIONS; shared ones count once.

    rows: of embeddings and head, where fewer than the model has are left; 0: all. The sum of tensor_bytes
    over the weights, and over the buffers that are saved with them. Activations and the cache of keys and
    values come on top in use, a file's names and vocabulary on disk.
    """
    return _total(model, _forms(model, precision), rows)


@dataclass(frozen=True)
class Bound:
    """Of a model that a budget cuts: no more than `bytes`, and fewer by `each` for every parameter that goes.

    whole: whether rows may become no whole number of blocks, so that they would be stored as WHOLE.
    """

    bytes: int
    each: Fraction
    whole: bool

    def parameters(self, target: int) -> int:
        """As many as must go so that no more than `target` bytes are left, whichever they are."""
        return -((target - self.bytes) // self.each)

    def left(self, parameters: int) -> int:
        """The bytes that are left at most where so many parameters go."""
        return -int((parameters * self.each - self.bytes) // 1)


def bound(model: PreTrainedModel, budget: Prune, precision: str) -> Bound:
    """What is known of the bytes before it is known which units go.

    The rows of an output projection get shorter, and shorter rows may be no whole number of blocks: its bytes
    are those of the worst length that the budget's steps allow. What a parameter takes with it is the least
    among the sites, so that the bound holds however the budget is shared out. Where all rows stay whole
    blocks, every matrix takes the same bytes a weight, and the bound is met exactly.
    """
    formats = PRECISIONS[precision]
    sites = chosen_sites(model, budget.sites, budget.widths, budget.width_multiple)
    worst: dict[int, str] = {}
    for site in sites:
        rows, step = site.kind.shortened(model, site), site.kind.step(site, budget.width_multiple)
        if rows is not None and step * site.features // site.units % FORMATS[formats[0]].block:
            worst[id(rows)] = WHOLE
    forms = _forms(model, precision) | worst
    total = _total(model, forms, budget.vocabulary.rows)
    return Bound(total, min(_unit_bytes(model, site, forms) for site in sites), bool(worst))


def _forms(model: PreTrainedModel, precision: str) -> dict[int, str]:
    """The format of each weight, by its id."""
    formats, ends, small = PRECISIONS[precision], _vocabulary(model), _routers(model)
    return {
        id(weight): stored_format(weight.shape, formats, id(weight) in ends, id(weight) in small)
        for weight in model.parameters()
    }


def _total(model: PreTrainedModel, forms: Mapping[int, str], rows: int) -> int:
    ends, saved = _vocabulary(model), model.state_dict().keys()
    buffers = (one for name, one in model.named_buffers() if name in saved)
    weights = sum(tensor_bytes(_left(one, ends, rows), forms[id(one)]) for one in model.parameters())
    return weights + sum(tensor_bytes(one.shape, WHOLE) for one in buffers)


def _unit_bytes(model: PreTrainedModel, site: Site, forms: Mapping[int, str]) -> Fraction:
    """Bytes that a unit of a site takes with it, for each of its parameters."""
    size = Fraction(0)
    for weight, count in site.kind.weights(model, site):
        form = FORMATS[forms[id(weight)]]
        size += Fraction(count * form.bytes, form.block)
    return size / site.kind.cost(model, site)


def _left(weight: torch.Tensor, ends: Collection[int], rows: int) -> Sequence[int]:
    """A weight's shape where so many rows of embeddings and head are left, 0: all."""
    return (rows, *weight.shape[1:]) if rows and id(weight) in ends else weight.shape


def _routers(model: PreTrainedModel) -> set[int]:
    """What chooses experts, and what weighs the shared one, which is a matrix of one row."""
    layers = decoder_layers(model)
    found = {id(one) for layer in layers for one in layer.parameters() if one.dim() == 2 and len(one) == 1}
    for layer, known in zip(layers, family_of(model.config).layers, strict=True):
        rows = known.mixture.rows if known.mixture else ()
        found |= {id(getattr(layer.get_submodule(module), name)) for module, name, _ in rows}
    return found


def _vocabulary(model: PreTrainedModel) -> set[int]:
    modules: list[torch.nn.Module | None] = [model.get_input_embeddings(), model.get_output_embeddings()]
    return {id(weight) for module in modules if module is not None for weight in module.parameters()}
