"""Rows of embeddings and head: only those of the tokens that stay, and the configs' ids with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from secateurs.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# How configs call one id of a token or a list of them; lists of ids, and of phrases, that are not written.
_NAMES = re.compile(r"_token_id$|_token_ids$|_token_index$")
_LISTS = ("suppress_tokens", "begin_suppress_tokens")
_PHRASES = ("bad_words_ids",)
# Gemma's tables of a vector for each layer have a size of their own.
_PER_LAYER = "vocab_size_per_layer_input"


def vocabulary_rows(model: PreTrainedModel) -> int:
    """How many rows the embeddings have, which may be more than the tokenizer has tokens."""
    return len(_embeddings(model).weight)


def row_parameters(model: PreTrainedModel) -> int:
    """Parameters that a row takes with it: in embeddings, a head of its own with its bias, other tables."""
    embeddings, head = _embeddings(model), model.get_output_embeddings()
    tables = [embeddings, *_per_layer_tables(model, embeddings, _per_layer_rows(model))]
    count = sum(int(table.weight.shape[1]) for table in tables)
    if head is not None:
        count += 0 if head.weight is embeddings.weight else int(head.weight.shape[1])
        count += head.bias is not None
    return count


def named_ids(*configs: Any) -> set[int]:
    """The ids that a model's config and generation config give a meaning to, such as the end of text."""
    return {
        index
        for config in _with_inner(configs)
        for name, value in vars(config).items()
        if _NAMES.search(name)
        for index in (value if isinstance(value, list) else [value])
        if _is_id(index)
    }


@torch.no_grad()
def cut_vocabulary(model: PreTrainedModel, ids: Mapping[int, int]) -> None:
    """Keep, in place, only the rows of `ids` (old id -> new id, from trimming.new_ids).

    Embeddings, head and its bias, and tables of a vector for each layer are cut; tied matrices stay one.
    config and generation config name the same tokens as before; an id that is none of a token's is dropped.
    Raises InputError for a model of which other weights have a row for each token too.
    """
    embeddings, head = _embeddings(model), model.get_output_embeddings()
    ordered = sorted(ids, key=ids.__getitem__)
    kept = torch.tensor([old for old in ordered if old < len(embeddings.weight)])
    sizes = {"vocab_size": len(embeddings.weight)}
    if per_layer := _per_layer_rows(model):
        sizes[_PER_LAYER] = per_layer
    tied = head is not None and head.weight is embeddings.weight
    tables = [embeddings, *_per_layer_tables(model, embeddings, sizes.get(_PER_LAYER))]
    _check_others(model, [*tables, *([] if head is None else [head])], sizes["vocab_size"])
    for table in tables:
        below = kept[kept < table.num_embeddings]
        table.weight, table.num_embeddings = _rows(table.weight, below), len(below)
    if head is not None:
        head.weight = embeddings.weight if tied else _rows(head.weight, kept)
        head.out_features = len(kept)
        if head.bias is not None:
            head.bias = _rows(head.bias, kept)
    for config in _configs(model):
        _rename(config, ids)
    # Some classes keep these sizes, and the row of padding, beside the config.
    for holder in (*_configs(model), *model.modules()):
        for name, size in sizes.items():
            if vars(holder).get(name) == size:
                setattr(holder, name, int((kept < size).sum()))
        if isinstance(holder, nn.Module) and vars(holder).get("padding_idx") is not None:
            holder.padding_idx = ids.get(vars(holder)["padding_idx"])  # type: ignore[assignment]


def _embeddings(model: PreTrainedModel) -> Any:
    return model.get_input_embeddings()


def _rows(weight: Tensor, kept: Tensor) -> nn.Parameter:
    return nn.Parameter(weight[kept.to(weight.device)].clone(), requires_grad=weight.requires_grad)


def _per_layer_rows(model: PreTrainedModel) -> int | None:
    return next((size for config in _configs(model) if (size := getattr(config, _PER_LAYER, None))), None)


def _per_layer_tables(model: PreTrainedModel, embeddings: nn.Module, rows: int | None) -> list[Any]:
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.num_embeddings == rows and module is not embeddings
    ]


def _check_others(model: PreTrainedModel, cut: Sequence[nn.Module], rows: int) -> None:
    known = {id(parameter) for module in cut for parameter in module.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) not in known and parameter.shape[0] == rows:
            raise InputError(
                f"{name}: has a row for each of {rows} tokens and is neither embeddings nor head, so the "
                "vocabulary cannot be cut; set prune.vocabulary.rows: 0"
            )


def _configs(model: PreTrainedModel) -> list[Any]:
    return list(_with_inner((model.config, model.generation_config)))


def _with_inner(configs: Iterable[Any]) -> Iterator[Any]:
    """Configs, and the configs inside them."""
    waiting = [config for config in configs if config is not None]
    while waiting:
        config = waiting.pop()
        yield config
        waiting += [value for value in vars(config).values() if isinstance(value, PretrainedConfig)]


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _rename(config: Any, ids: Mapping[int, int]) -> None:
    for name, value in list(vars(config).items()):
        if value is None:
            continue
        if _NAMES.search(name) or name in _LISTS:
            found = [ids.get(one) for one in value if _is_id(one)] if isinstance(value, list) else None
            single = ids.get(value) if _is_id(value) else value
            setattr(
                config, name, single if found is None else [one for one in found if one is not None] or None
            )
        elif name in _PHRASES:
            phrases = [[ids.get(one) for one in phrase] for phrase in value]
            # A phrase that can no longer be written need not be ruled out.
            setattr(config, name, [phrase for phrase in phrases if None not in phrase] or None)
