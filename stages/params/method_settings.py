"""The part of params.yaml that the method knows."""

from secateurs.settings.method import Settings
from secateurs.settings.pruning import Surgery
from stages.params.file import Params


def method_settings(params: Params) -> Settings:
    """The settings that params.yaml gives the method; rounds in the order in which they follow."""
    return Settings(
        mixture=params.mixture,
        rounds={name: params.rounds[name].progress for name in params.chain()},
        mask=params.mask,
        prune=params.prune,
        capture=params.capture,
        surgery=Surgery(**{name: getattr(params.surgery, name) for name in Surgery.model_fields}),
        device=params.compute.device,
    )
