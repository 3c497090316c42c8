"""The proof that a kind can be cut out of a model: on its tiny twin, half of all units, chosen at random.

What was found in a family (families/discover.py) is believed once cutting it on the twin shows that

- hidden states and head apart, as losses are computed, give the logits of the whole model,
- the cut model computes what the whole one computes with the same units masked: their channels set to 0,
  the router's logits of experts to minus infinity,
- what is saved is loaded from its files, by the stock class where its config can tell the sizes, and
  computes the same,
- embeddings and head are tied as they were,
- it writes the same text with its cache as without, if the whole model does.
"""

from contextlib import ExitStack
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from secateurs.checkpoints.saving import save_model
from secateurs.errors import InputError
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.families.twins import VOCABULARY, auto_class, twin, twin_config
from secateurs.files.full_disk import FullDiskError, room_for
from secateurs.inference.head import head_logits, hidden_states
from secateurs.kinds.kind import Masks, Site
from secateurs.kinds.registry import kinds
from secateurs.kinds.sites import cut, finish

# Root mean square difference of logits, relative to their spread: by rounding, and by what a cut changes.
SAME, OTHER = 1e-3, 1e-2

_PROVED: dict[tuple[str, str], str | None] = {}


def unproved(config: PretrainedConfig, name: str) -> str | None:
    """Why nothing of a kind can go from a model with this config; None if it was proved that it can.

    A twin is cut once for each kind in a process, in about a second. Kinds of whole sublayers, of which no
    channels go, are not cut here. Raises InputError where the twin cannot be built and run,
    FullDiskError where it cannot be saved.
    """
    kind = kinds()[name]
    reason = kind.refusal(config)
    if reason is not None or not kind.healed:
        return reason
    small = twin_config(config)
    key = (small.to_json_string(use_diff=False), name)
    if key not in _PROVED:
        try:
            _prove(small, name)
            _PROVED[key] = None
        except FullDiskError:
            raise
        except InputError as error:
            _PROVED[key] = str(error)
        except Exception as error:
            # What a model of another build does with other sizes cannot be foreseen, nor what it raises.
            said = str(error).strip().splitlines() or [type(error).__name__]
            _PROVED[key] = f"cut, a small model of it does not run: {said[0]}"
    return _PROVED[key]


def check_proved(config: PretrainedConfig, name: str) -> None:
    """Raise InputError where it was not proved that units of a kind can go from a model with this config."""
    reason = unproved(config, name)
    if reason is not None:
        raise InputError(f"config.json: model_type: {config.model_type}: {name}: {reason}")


@torch.no_grad()
def _prove(small: PretrainedConfig, name: str) -> None:
    """Cut a twin and raise InputError, with the reason, for what does not hold."""
    logging.disable_progress_bar()  # of a model of some thousand weights
    model = open_experts(twin(small))
    ids = torch.randint(3, VOCABULARY - 1, (2, 12), generator=torch.Generator().manual_seed(1))
    sites = kinds()[name].sites(model)
    masks = half_masks(sites)
    if all(bool(mask.all()) for mask in masks.values()):
        raise InputError(f"no layer has more than one of its {kinds()[name].unit} in a group")
    dense, expected = _logits(model, ids), _masked(model, sites, masks, ids)
    if not bool(dense.isfinite().all()):
        raise InputError(
            "what a small model of it computes is not finite; correct the numbers of its rope, norms and "
            "scales"
        )
    apart = head_logits(model)(hidden_states(model, ids))
    _same(apart, dense, "a small model of it computes something else when its head runs by itself")
    if _apart(expected, dense) < OTHER:
        raise InputError("it hardly changes what a small model of it computes, so that nothing is shown")
    tied, writes = _is_tied(model), _writes_the_same(model, ids)
    cut(model, masks)
    _same(_logits(model, ids), expected, "cut, a small model of it computes something else than masked")
    finish(close_experts(model), masks)
    with TemporaryDirectory(prefix="secateurs-") as scratch, room_for(scratch):
        save_model(model, Path(scratch))
        # Code of its own is what was just written.
        options = {"local_files_only": True, "trust_remote_code": True}
        loaded = auto_class(small).from_pretrained(scratch, **options).eval()
    _same(_logits(loaded, ids), expected, "a small model of it, cut and loaded, computes something else")
    if _is_tied(loaded) != tied:
        raise InputError("a small model of it, cut and loaded, does not tie embeddings and head as before")
    if writes and not _writes_the_same(loaded, ids):
        raise InputError("a small model of it, cut, writes other text with its cache than without")


def half_masks(sites: list[Site]) -> dict[str, Tensor]:
    """Half of the units of each site, in every group equally many, other ones at each; one of one stays.

    Fewer go where a site cannot lose half.
    """
    generator = torch.Generator().manual_seed(3)
    masks = {site.name: torch.ones(site.units, dtype=torch.bool) for site in sites}
    for site in sites:
        for units in masks[site.name].view(site.groups, -1):
            gone = min(len(units) // 2, len(units) - ceil(site.least / site.groups))
            units[torch.randperm(len(units), generator=generator)[: max(0, gone)]] = False
    return masks


def _masked(model: PreTrainedModel, sites: list[Site], masks: Masks, ids: Tensor) -> Tensor:
    """The logits of the whole model with the units masked."""
    with ExitStack() as masked:
        for site in sites:
            masked.enter_context(site.kind.masked(model, site, masks[site.name]))
        return _logits(model, ids)


def _logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    values: Tensor = model(input_ids=ids, use_cache=False).logits
    return values.float()


def _apart(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).square().mean().sqrt() / expected.std())


def _same(found: Tensor, expected: Tensor, otherwise: str) -> None:
    apart = _apart(found, expected)
    if not apart <= SAME:
        raise InputError(f"{otherwise}: logits differ by {apart:.2g} of their spread")


def _is_tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _writes_the_same(model: Any, ids: Tensor) -> bool:
    """Whether a model writes the same text with its cache as without."""
    if not model.can_generate():
        return False
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    cached, plain = (
        model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=use_cache, **options)
        for use_cache in (True, False)
    )
    return torch.equal(cached, plain)
