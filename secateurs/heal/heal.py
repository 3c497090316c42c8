"""The last step, after all rounds: the dense model cut by the last masks, and healed."""

from collections.abc import Callable

from transformers import PreTrainedModel

from secateurs.devices.placement import resolve_device
from secateurs.heal.healed import Healed
from secateurs.heal.layers import HealingText, cut_and_heal
from secateurs.kinds.kind import Masks
from secateurs.settings.method import Settings
from secateurs.text.portions import choice_text, healing_text, token_weights
from secateurs.text.rows import Text


def heal(
    model: PreTrainedModel,
    masks: Masks,
    text: Text,
    settings: Settings,
    on_layer: Callable[[], object] = lambda: None,
) -> Healed:
    """Cut the dense model, in host memory and its experts opened, in place, and heal what is left.

    text: all calibration text; healing reads its part, and so does the choice between ways of healing.
    `on_layer` is called after each decoder layer. Returns what healing did.
    """
    left_out = choice_text(text, settings) if settings.surgery.method == "auto" else {}
    return cut_and_heal(
        model,
        masks,
        HealingText(healing_text(text, settings), token_weights(text, settings), left_out),
        settings.surgery,
        device=resolve_device(settings.device),
        batch_size=settings.surgery.batch_size,
        on_layer=on_layer,
    )
