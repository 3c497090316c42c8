"""The family of a model, found on its twin: what can be cut in each layer, and what healing must know of it.

Nothing here knows architectures by name. Channels and heads are found by what depends on what (chains.py,
attention_heads.py), and the stream by what adds up (residual.py). Which entry of the config says how many
there are is found by building the model with other numbers (widths.py). That the result is right is proved
by cutting it (checkpoints/family_proof.py).
"""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from secateurs.errors import InputError
from secateurs.families.attention_heads import heads_of
from secateurs.families.chains import Refusal, chains_of
from secateurs.families.decoder import layers_name
from secateurs.families.family import Family, Layer, Sublayer
from secateurs.families.fused_experts import OpenExperts, open_experts
from secateurs.families.hooks import hooked
from secateurs.families.mixtures import mixtures_of
from secateurs.families.residual import joined
from secateurs.families.trace import Call, calls_of
from secateurs.families.twins import VOCABULARY, twin, twin_config
from secateurs.families.widths import Widths


@dataclass(frozen=True)
class _Seen:
    """What one layer showed; refusals: why channels of it cannot go, by the module that reads them."""

    mlps: list[Sublayer]
    attention: Sublayer | None
    refusals: list[Refusal]
    heads_refused: str | None
    heads: bool = False
    gives: int = 0


def discover(model: PreTrainedModel) -> Family:
    """The family of a tiny model. Its experts are opened.

    Raises InputError where no list of decoder layers is found. Kinds of which nothing was found are refused
    in the result, with the reasons.
    """
    path = layers_name(model)
    layers: Any = open_experts(model).get_submodule(path)
    calls = calls_of(model, layers, _ids(0))
    seen = list(_layers_seen(layers, calls))
    refused = {}
    places = [(index, mlp) for index, one in enumerate(seen) for mlp in one.mlps]
    found_widths = Widths(model, path, places)
    mlps = [
        tuple(replace(mlp, width=width) for mlp in one.mlps if (width := found_widths.of((index, mlp))))
        for index, one in enumerate(seen)
    ]
    if not any(mlps) and not found_widths.reasons:
        mlps = [
            tuple(replace(mlp, width=found_widths.fixed[index, mlp]) for mlp in one.mlps)
            for index, one in enumerate(seen)
        ]
    if not any(mlps):
        found = [refusal.reason for one in seen for refusal in one.refusals]
        reasons = [*found_widths.reasons, *(() if places else found)] or [
            "no layer has linear modules with channels"
        ]
        refused["mlp"] = "; ".join(dict.fromkeys(reasons))
    if not any(one.heads for one in seen):
        reasons = [one.heads_refused for one in seen if one.heads_refused is not None]
        refused["attention"] = refused["query_heads"] = (
            reasons or ["no layer has an attention of plain projections"]
        )[0]
    mixtures, reason = mixtures_of(model, path, places, calls)
    if reason is not None:
        refused["experts"] = reason
    own = tuple(
        Layer(found, one.attention, one.heads, one.gives, mixtures.get(index))
        for index, (found, one) in enumerate(zip(mlps, seen, strict=True))
    )
    return Family(path, own, refused, _run_apart(model, layers))


def _layers_seen(layers: nn.ModuleList, calls: Sequence[Call | None]) -> Iterator[_Seen]:
    """Each layer's own; layers of the same modules are looked at once where the first and the last agree."""
    by_key: dict[Any, list[int]] = {}
    for index, layer in enumerate(layers):
        key = (calls[index] is None, *((name, type(one)) for name, one in layer.named_modules()))
        by_key.setdefault(key, []).append(index)
    found: dict[int, _Seen] = {}
    for numbers in by_key.values():
        first, last = (_seen(layers[number], calls[number]) for number in (numbers[0], numbers[-1]))
        agreed = first if first == last else None
        found |= {index: agreed or _seen(layers[index], calls[index]) for index in numbers}
    return (found[index] for index in range(len(layers)))


def _seen(layer: nn.Module, call: Call | None) -> _Seen:
    if call is None:
        return _Seen([], None, [Refusal("", "some layers do not run on text alone, or more than once")], None)
    chains, refusals = chains_of(layer, call)
    given = call.run(layer)
    gives = len(given) if isinstance(given, tuple) else 0
    mlps = [joined(layer, call, Sublayer(one.inputs, one.output, one.blocks, one.output)) for one in chains]
    for name, module in layer.named_modules():
        if isinstance(module, OpenExperts):
            mlps.append(joined(layer, call, _of_experts(name, module)))
    heads = heads_of(layer, call)
    if heads is None:
        return _Seen(mlps, None, refusals, None, False, gives)
    refused = heads.reason if isinstance(heads, Refusal) else None
    inputs = () if isinstance(heads, Refusal) else heads.inputs
    attention = joined(layer, call, Sublayer(inputs, heads.output, (), heads.output))
    return _Seen(mlps, attention, refusals, refused, refused is None, gives)


@torch.no_grad()
def _run_apart(model: PreTrainedModel, layers: nn.ModuleList) -> bool:
    """Whether two texts that move through the layers in turn, layer by layer, end as each does by itself."""
    texts = [_ids(seed) for seed in (0, 1)]
    calls = [calls_of(model, layers, ids) for ids in texts]
    expected = []
    for ids in texts:
        with hooked(after=[(layers[-1], lambda _, __, output: expected.append(_stream(output)))]):
            model(input_ids=ids, use_cache=False)
    streams: list[Any] = [own[0] and own[0].hidden for own in calls]
    for index, layer in enumerate(layers):
        for number, own in enumerate(calls):
            call = own[index]
            if call is None:
                return False
            streams[number] = _stream(call.run(layer, streams[number]))
    return all(torch.allclose(*pair, atol=1e-4) for pair in zip(streams, expected, strict=True))


def _stream(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _ids(seed: int) -> Tensor:
    return torch.randint(3, VOCABULARY - 1, (2, 12), generator=torch.Generator().manual_seed(seed))


def _of_experts(name: str, module: OpenExperts) -> Sublayer:
    inside = f"{name}.{{expert}}"
    first: Any = next(module.children())
    makers = [part for part in ("gate_proj", "up_proj") if hasattr(first, part)]
    return Sublayer(
        tuple(f"{inside}.{part}" for part in makers),
        f"{inside}.down_proj",
        (1,) * len(makers),
        name,
        routed=True,
    )


def check_family(config: PretrainedConfig) -> None:
    """Raise InputError for a model of which neither channels nor heads nor experts can go."""
    refused = family_of(config).refused
    if {"mlp", "attention", "experts"} <= refused.keys():
        raise InputError(f"config.json: model_type: {config.model_type}: cannot be pruned: {refused['mlp']}")


_FOUND: dict[str, Family] = {}
# By what a config holds, as bytes: every layer asks, and to make the config of a twin takes long.
_OF_CONFIGS: dict[tuple[type, bytes], Family] = {}


def family_of(config: PretrainedConfig) -> Family:
    """The family of a model with this config, found on its twin; once for each twin in a process.

    Raises InputError for a model that cannot be built and run as a language model, or whose decoder is not
    found.
    """
    held = type(config), pickle.dumps(vars(config))
    if held not in _OF_CONFIGS:
        _OF_CONFIGS[held] = _family_of(config)
    return _OF_CONFIGS[held]


def _family_of(config: PretrainedConfig) -> Family:
    try:
        small = twin_config(config)
        key = small.to_json_string(use_diff=False)
        if key not in _FOUND:
            # Gradients show what depends on what, also where the caller needs none.
            with torch.inference_mode(False), torch.enable_grad():
                _FOUND[key] = discover(twin(small))
    except InputError:
        raise
    except Exception as error:
        # Config classes and models raise errors of all kinds for what they do not expect.
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"config.json: model_type: {config.model_type}: a small model of it does not run: {said[0]}"
        ) from error
    return _FOUND[key]
