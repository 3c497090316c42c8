"""The angles of rotary embeddings: what a GGUF file tells of them, as transformers' configs have it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from secateurs.errors import InputError

FREQUENCIES = "rope_freqs.weight"
# What llama.cpp takes where a file tells no base.
BASE = 10_000.0
# The bands of frequencies of Llama 3.1 and later. A file has what they lead to, the divisor of each
# frequency, and not these numbers, nor the context length that they are relative to, a power of two.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
LENGTHS = [2**power for power in range(4, 24)]
TOLERANCE = 1e-4


def full_rope(config: PretrainedConfig) -> dict[str, Any]:
    """The rope parameters of the layers that see the whole context, for changes in place."""
    rope = getattr(config, "rope_parameters", None) or {"rope_type": "default", "rope_theta": BASE}
    found: dict[str, Any] = rope.get("full_attention", rope)
    return found


def divisors(config: PretrainedConfig, size: int) -> torch.Tensor:
    """By how much a config's scaling divides each frequency theta^(-2i/size); float32, of size/2."""
    rope = full_rope(config)
    plain = rope["rope_theta"] ** -(torch.arange(0, size, 2, dtype=torch.float32) / size)
    if rope["rope_type"] == "default":
        return torch.ones_like(plain)
    scaled, _ = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu")
    divided: torch.Tensor = plain / scaled
    return divided


def read_rope(
    told: Mapping[str, Any], factors: np.ndarray | None, config: PretrainedConfig
) -> frozenset[str]:
    """Set a config's base and scaling to what a file tells, and return the keys that were used.

    told: the keys of the architecture, without its name. factors: FREQUENCIES, if the file has it.
    Raises InputError for scaling that has no place in the config.
    """
    rope = full_rope(config)
    rope["rope_theta"] = told.get("rope.freq_base", BASE)
    used = {"rope.freq_base", "rope.scaling.type"}
    kind = told.get("rope.scaling.type", "none")
    if kind in ("linear", "yarn"):
        used.add("rope.scaling.factor")
        rope |= {"rope_type": kind, "factor": _needed(told, "rope.scaling.factor")}
    elif kind != "none":
        raise InputError(f"rope.scaling.type: {kind}: not read; only none, linear and yarn are")
    if kind == "yarn":
        used.add("rope.scaling.original_context_length")
        rope["original_max_position_embeddings"] = _needed(told, "rope.scaling.original_context_length")
    if factors is not None:
        if kind != "none":
            raise InputError(f"{FREQUENCIES}: with rope.scaling.type: {kind}: only one of the two is read")
        _fit(torch.from_numpy(np.array(factors, dtype=np.float32)), config)
    if "rope.freq_base_swa" in told and "sliding_attention" in (
        getattr(config, "rope_parameters", None) or {}
    ):
        config.rope_parameters["sliding_attention"]["rope_theta"] = told["rope.freq_base_swa"]
        used.add("rope.freq_base_swa")
    return frozenset(used)


def _needed(told: Mapping[str, Any], key: str) -> Any:
    if key not in told:
        raise InputError(f"{key}: not there, but rope.scaling.type: {told['rope.scaling.type']} needs it")
    return told[key]


def _fit(factors: torch.Tensor, config: PretrainedConfig) -> None:
    """Find the scaling that divides the frequencies by `factors`: none, linear, or that of Llama 3."""
    rope, most = full_rope(config), float(factors.max())
    plain = dict(rope)
    tried: list[dict[str, Any]] = [{}, {"rope_type": "linear", "factor": most}]
    tried += [
        {"rope_type": "llama3", "factor": most, **LLAMA3, "original_max_position_embeddings": length}
        for length in LENGTHS
    ]
    for scaling in tried:
        rope |= scaling
        found = divisors(config, 2 * len(factors))
        if torch.allclose(found, factors, rtol=TOLERANCE, atol=0):
            return
        rope.clear()
        rope |= plain
    raise InputError(
        f"{FREQUENCIES}: divides frequencies by {float(factors.min()):g} to {most:g} in no way that a config "
        "tells: neither linear nor as Llama 3"
    )
