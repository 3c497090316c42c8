"""The first step of a round: channel statistics of the dense model, cut by the masks so far."""

from collections.abc import Callable
from dataclasses import replace

from transformers import PreTrainedModel

from secateurs.devices.placement import place
from secateurs.kinds.kind import Masks
from secateurs.kinds.sites import chosen_sites, cut, kept_units, sites_of
from secateurs.measure.capture import DomainCapture, capture
from secateurs.measure.lost import look, lost
from secateurs.settings.method import Settings
from secateurs.text.portions import left_out_text, round_text
from secateurs.text.rows import Text


def measure(
    model: PreTrainedModel,
    masks: Masks,
    text: Text,
    settings: Settings,
    round_name: str,
    on_sequences: Callable[[int], object] = lambda count: None,
) -> dict[str, DomainCapture]:
    """Cut the dense model, in place, by the masks of the round before, and take a round's statistics of it.

    model: its experts opened (families.fused_experts). text: all calibration text; the round reads its part.
    `on_sequences` is called with the number of sequences of each batch done. With `mask.left_out`, what the
    cut model has lost is taken too. Returns captures by domain, over the dense model's features. Raises
    InputError where an activation or a loss is not finite.
    """
    budget = settings.prune
    chosen = chosen_sites(model, budget.sites, budget.widths, budget.width_multiple)
    kept = {site.name: site.of_features(kept_units(masks, site)) for site in chosen}
    left_out = left_out_text(text, settings.mask.left_out) if settings.mask.left_out else None
    if left_out is not None:
        place(model, settings.device)
        before = look(model, left_out, settings.capture.batch_size)
    cut(model, masks)
    place(model, settings.device)
    gone = {} if left_out is None else lost(model, before, left_out, settings.capture.batch_size)
    sites = sites_of(model, budget.sites)
    captures = capture(model, sites, round_text(text, settings, round_name), settings.capture, on_sequences)
    return {domain: replace(one.over_dense(kept), lost=gone.get(domain)) for domain, one in captures.items()}
