"""The last step, after all rounds: the dense model cut by the last masks, and healed."""

from collections.abc import Callable

from transformers import PreTrainedModel

from stages.checkpoints.devices import resolve_device
from stages.method.settings import Settings
from stages.method.text import Text, healing_text
from stages.pruning.sites import Masks
from stages.pruning.surgery import prune


def operate(
    model: PreTrainedModel,
    masks: Masks,
    text: Text,
    settings: Settings,
    on_layer: Callable[[], object] = lambda: None,
) -> None:
    """Cut the dense model, in host memory and its experts opened, in place, and heal what is left.

    text: all calibration text; healing reads its part. `on_layer` is called after each decoder layer.
    """
    prune(
        model,
        masks,
        healing_text(text, settings),
        settings.mixture,
        settings.surgery.healing,
        device=resolve_device(settings.device),
        batch_size=settings.surgery.batch_size,
        on_layer=on_layer,
    )
