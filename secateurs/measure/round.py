"""The first step of a round: channel statistics of the dense model, cut by the masks so far."""

from collections.abc import Callable

from transformers import PreTrainedModel

from secateurs.devices.placement import place
from secateurs.kinds.chosen import chosen_sites
from secateurs.kinds.cutting import cut
from secateurs.kinds.sites import Masks, channel_mask, sites_of
from secateurs.measure.capture import DomainCapture, capture
from secateurs.settings.method import Settings
from secateurs.text.portions import round_text
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

    model: its experts opened (pruning.experts). text: all calibration text; the round reads its part.
    `on_sequences` is called with the number of sequences of each batch done. Returns captures by domain, over
    the dense model's channels. Raises InputError where an activation or a loss is not finite.
    """
    budget = settings.budget
    sites = chosen_sites(model, budget.sites, budget.widths, budget.width_multiple)
    kept = {site.name: channel_mask(site, masks[site.name]) for site in sites}
    cut(model, masks)
    place(model, settings.device)
    read = round_text(text, settings, round_name)
    captures = capture(
        model,
        sites_of(model, budget.sites),
        read.ids,
        answers=read.answers,
        gradients=settings.capture.gradients,
        checkpointing=settings.capture.checkpointing,
        batch_size=settings.capture.batch_size,
        on_sequences=on_sequences,
    )
    return {domain: one.expanded(kept) for domain, one in captures.items()}
