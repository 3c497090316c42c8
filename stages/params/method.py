"""params.yaml in the method's own terms."""

from secateurs.settings.healing import Healing, Reconstruction
from secateurs.settings.method import Budget, Capture, Memory, Settings, Surgery
from stages.params.file import Params


def budget_of(params: Params) -> Budget:
    """The group `prune`."""
    prune, memory = params.prune, params.prune.memory
    return Budget(
        sparsity=prune.sparsity,
        parameters=prune.parameters,
        memory=None if memory is None else Memory(memory.bytes, memory.precision),
        widths=prune.widths,
        width_multiple=prune.width_multiple,
        floor=prune.floor,
        sites=tuple(prune.sites),
    )


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
        budget=budget_of(params),
        capture=Capture(**params.capture.model_dump()),
        surgery=Surgery(
            Healing(heal, surgery.alpha, surgery.ridge, reconstruction),
            surgery.sequences,
            surgery.choice_sequences,
            surgery.batch_size,
        ),
        device=params.compute.device,
    )
