"""Stage: channel statistics per domain, of the dense model cut by the masks so far."""

from pathlib import Path

import click

from secateurs.devices.placement import process_group, resolve_device
from secateurs.families.decoder import decoder_layers
from secateurs.families.fused_experts import open_experts
from secateurs.measure.capture import DomainCapture
from secateurs.measure.measure import measure
from secateurs.measure.streamed import measure_streamed
from secateurs.progress import counter, is_first
from secateurs.settings.method import unread_gradients
from stages.common.calibration_text import read_text
from stages.common.checkpoints import load_model, stream_model
from stages.common.console import stage, summary
from stages.common.dvc import key_of_stage
from stages.common.launching import launch
from stages.common.locks import hold
from stages.common.paths import CALIBRATION, MODEL, ROUNDS
from stages.common.settled import settled_params
from stages.params.file import PARAMS_FILE, Params, read_params
from stages.params.method_settings import method_settings
from stages.rounds.captures import write_captures
from stages.rounds.tensors import read_masks


@stage
@click.argument("round_name", metavar="ROUND", required=False)
def main(round_name: str | None) -> None:
    """Capture the channel statistics that ROUND prunes by."""
    params = settled_params(read_params())
    round_name = key_of_stage(round_name, "ROUND")
    before = params.round(round_name).after
    launch(params.compute, "stages.capture", round_name)
    hold(ROUNDS / round_name / "statistics.safetensors")
    captures = _captures(params, round_name, ROUNDS / before / "masks.safetensors")
    if not is_first():
        return
    write_captures(
        ROUNDS / round_name / "statistics.safetensors",
        captures,
        # Where layers are is no matter of what they show.
        {"after": before, **params.capture.model_dump(exclude={"layers"}), "dtype": params.compute.dtype},
    )
    tokens = sum(one.tokens for one in captures.values())
    sites = len(next(iter(captures.values())).statistics)
    summary(f"capture {round_name}", f"{sites} sites, {len(captures)} domains, {tokens:,} tokens")
    # `dvc exp run -S mask.metric=wanda` runs no plan that would say so.
    if (hint := unread_gradients(params.mask, params.capture)) is not None:
        click.echo(f"Hint: {PARAMS_FILE}: {hint}")


def _captures(params: Params, round_name: str, before: Path) -> dict[str, DomainCapture]:
    dtype, device = params.compute.dtype, resolve_device(params.compute.device)
    settings, label = method_settings(params), f"capture {round_name}"
    # The model first: of a project where nothing has run yet that is what to say.
    if params.capture.layers == "streamed":
        source = stream_model(MODEL, dtype, device)
        masks, text, layers = read_masks(before), read_text(CALIBRATION), len(decoder_layers(source.model))
        with process_group(device), counter(label, "layer", layers) as bar:
            return measure_streamed(source, masks, text, settings, round_name, bar.update)
    model = open_experts(load_model(MODEL, dtype))
    masks, text = read_masks(before), read_text(CALIBRATION)
    length = next(iter(text.ids.values())).shape[1]
    total = params.capture.sequences * sum(map(text.times, text.ids)) * length
    with process_group(device), counter(label, "token", total, thousands=True) as bar:
        return measure(model, masks, text, settings, round_name, lambda count: bar.update(count * length))


if __name__ == "__main__":
    main()
