"""What a config alone says that llama.cpp would not run, or compute otherwise, before its converter runs."""

from transformers import PretrainedConfig

from secateurs.errors import InputError

# The only layers for which the architecture exaone4 has a window: those of the model of 32 billion.
WINDOWED = [*["sliding_attention"] * 3, "full_attention"] * 16


def check_convertible(config: PretrainedConfig) -> None:
    """Raise InputError for a config that has no place in llama.cpp; check_converted judges files."""
    family, types = config.model_type, list(getattr(config, "layer_types", None) or [])
    if family == "granitemoehybrid":
        raise InputError(
            f"config.json: model_type: {family}: llama.cpp's converter reads layer_types by names of "
            "transformers 4, and would write layers of attention as state-space layers"
        )
    if family in {"lfm2", "lfm2_moe"} and len(set(types)) == 1:
        raise InputError(
            f"config.json: layer_types: all are {types[0]}: llama.cpp runs {family} only with both kinds"
        )
    window = config.sliding_window if family == "exaone4" else None
    if window is not None and types != WINDOWED:
        raise InputError(
            f"config.json: sliding_window: {window}: has a place in llama.cpp's architecture exaone4 only in "
            f"three of each four of {len(WINDOWED)} layers; otherwise it would compute another model"
        )
