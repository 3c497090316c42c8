"""What was found in the model that is to be pruned, as lines of text."""

from collections import Counter

from transformers import PretrainedConfig

from secateurs.checkpoints.family_proof import check_proved
from secateurs.families.discover import family_of
from secateurs.families.family import Mixture, Sublayer
from secateurs.families.mixtures import number_of


def found_lines(config: PretrainedConfig, kinds: tuple[str, ...]) -> list[str]:
    """The mlps of the model and what counts their channels, the kinds that go, and how layers are healed.

    kinds: those of `prune.sites`, proved on a tiny model. Raises InputError for one that is not.
    """
    for name in kinds:
        check_proved(config, name)
    family = family_of(config)
    counts = Counter(_of_mlp(mlp) for layer in family.layers for mlp in layer.mlps)
    lines = [f"Found in {config.model_type}, of {len(family.layers)} layers:"]
    lines += [f"  {count} x {shown}" for shown, count in counts.items()]
    mixtures = Counter(_of_mixture(config, one) for layer in family.layers if (one := layer.mixture))
    lines += [f"  {count} x {shown}" for shown, count in mixtures.items()]
    lines.append(
        f"{', '.join(kinds)}: cutting a tiny random model of this config equals masking it, and it loads."
    )
    unknown = [mlp.output for layer in family.layers for mlp in layer.mlps if mlp.entry is None]
    if not family.apart:
        lines.append("Its layers hand each other more than the residual stream: surgery.heal must be none.")
    elif unknown:
        names = ", ".join(dict.fromkeys(unknown))
        lines.append(
            f"Healed by least squares alone, because the stream that it joins was not found: {names}."
        )
    return lines


def _of_mixture(config: PretrainedConfig, mixture: Mixture) -> str:
    shown = f"{mixture.sublayer.block}, {number_of(config, mixture.entry)} experts counted by {mixture.entry}"
    shown += f", of which a token is given to {number_of(config, mixture.chosen)} ({mixture.chosen})"
    groups = 0 if mixture.groups is None else number_of(config, mixture.groups)
    return f"{shown}, in {groups} groups ({mixture.groups})" if groups > 1 else shown


def _of_mlp(mlp: Sublayer) -> str:
    makers = " and ".join(dict.fromkeys(mlp.inputs))
    width = "" if mlp.width is None else mlp.width.attribute
    if mlp.width is not None and mlp.width.factor != 1:
        width = f"{mlp.width.factor} * {width}"
    counted = "made by its class as" if mlp.width is not None and mlp.width.fixed else "counted by"
    return f"{mlp.output}, channels made by {makers}, {counted} {width}"
