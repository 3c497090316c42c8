"""What transformers 4 calls the entries of a config that its successor has renamed, family by family."""

from collections.abc import Mapping
from typing import Any

# Where transformers 4 names a number of the rotary embedding, which its successor keeps in `rope_parameters`.
ROPE_NAMES = {"rope_theta": "rope_theta", "partial_rotary_factor": "partial_rotary_factor"}
NEOX_NAMES = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
# Families that want the oldest name of `rope_type` in `rope_scaling`, and no key that the config has itself.
OLDEST_ROPE = {"olmo2", "phi3"}
# Rotary embeddings besides the default that transformers 4 knows.
ROPE_TYPES = {"linear", "dynamic", "yarn", "longrope", "llama3"}


def old_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers 4 reads of a config.json, and 5 writes under other names only; 5 reads both as one.

    Without these entries 4 takes its defaults in silence: another rotary base, other numbers of experts.
    """
    family, rope = config["model_type"], config.get("rope_parameters") or {}
    old: dict[str, Any] = {}
    if any(isinstance(one, dict) or one is None for one in rope.values()):
        if not rope.keys() >= {"sliding_attention", "full_attention"} or None in rope.values():
            return old
        old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    names = NEOX_NAMES if family == "gpt_neox" else ROPE_NAMES
    old |= {names[key]: rope[key] for key in names if key in rope}
    if rope.get("rope_type", "default") in ROPE_TYPES:
        scaling = {key: rope[key] for key in rope if key not in {"type", "rope_type", *names}}
        if family in OLDEST_ROPE:
            scaling = {key: value for key, value in scaling.items() if key not in config}
        old["rope_scaling"] = {"type" if family in OLDEST_ROPE else "rope_type": rope["rope_type"], **scaling}
    if family == "qwen3_moe":
        old["num_experts"] = config["num_local_experts"]
    return old
