"""params.yaml in the method's own terms."""

from stages.common.params import Params
from stages.method.settings import Budget, Capture, Settings, Surgery
from stages.pruning.settings import Healing, Reconstruction


def method_settings(params: Params) -> Settings:
    """The settings that params.yaml gives the method; rounds in the order in which they follow."""
    surgery, training = params.surgery, params.surgery.reconstruct
    heal = "residual" if surgery.heal == "auto" and not params.chooses_healing() else surgery.heal
    reconstruction = (
        Reconstruction(training.epochs, training.learning_rate, training.batch_size)
        if training.epochs
        else None
    )
    return Settings(
        mixture=params.mixture,
        rounds={name: params.rounds[name].progress for name in params.chain()},
        metric=params.mask.metric,
        seed=params.mask.seed,
        budget=Budget(**params.prune.model_dump() | {"sites": tuple(params.prune.sites)}),
        capture=Capture(**params.capture.model_dump()),
        surgery=Surgery(
            Healing(heal, surgery.alpha, surgery.ridge, reconstruction),
            surgery.sequences,
            surgery.choice_sequences,
            surgery.batch_size,
        ),
        device=params.compute.device,
    )
