"""Tool: write params.yaml for the arguments of `secateurs prune`, so that the pipeline prunes alike."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from secateurs.arguments import arguments, order_of
from secateurs.checkpoints.raw_config import CONFIG
from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from secateurs.files.decoding import decode, parse_json
from secateurs.order import model_source
from secateurs.settings.sources import HubModel, ModelSource, PathModel
from stages.common.console import stage
from stages.params.file import PARAMS_FILE, parse_params
from stages.params.ordered import ordered
from stages.planning.early_checks import check_early

DTYPES = ("float32", "bfloat16", "float16")


@stage
@arguments
@click.option("--force", is_flag=True, help="Also where params.yaml has changes that are not committed.")
def main(force: bool, **given: Any) -> None:
    """Write params.yaml for MODEL and TEXT, by which the pipeline prunes as `secateurs prune` would."""
    order = order_of(**given)
    if not force and _is_changed():
        raise InputError(
            f"{PARAMS_FILE}: has changes that are not committed; commit them, or overwrite them by --force"
        )
    typed = " ".join(shlex.quote(one) for one in ["secateurs", "init", *sys.argv[1:]])
    base = PARAMS_FILE.read_text(encoding="utf-8")
    text = ordered(base, order, _dtype(model_source(order.model)), typed)
    params = parse_params(text, PARAMS_FILE)
    check_early(params)
    with atomic(PARAMS_FILE) as path:
        path.write_text(text, encoding="utf-8")
    click.echo(f"{PARAMS_FILE}: {params.model.name} is pruned by {', '.join(params.domains)}")
    tasks = ", ".join(params.benchmarks) or "none"
    click.echo(f"`make repro` does it. Tasks that are scored too are named under `benchmarks`: {tasks}.")
    if order.recovery is not None:
        click.echo("`make recover` then trains what is left.")
    if order.precision is not None:
        click.echo("`make export` then writes the GGUF file.")


def _is_changed() -> bool:
    """Whether git knows params.yaml otherwise than it lies here."""
    try:
        command = ["git", "status", "--porcelain", "--", str(PARAMS_FILE)]
        return bool(subprocess.run(command, capture_output=True, check=False).stdout)
    except FileNotFoundError:
        return False


def _dtype(source: ModelSource) -> str:
    """What the command computes in: the dtype of the weights; that of GGUF files is float32."""
    config = _config(source)
    inner = config.get("text_config")
    for entries in (config, inner if isinstance(inner, dict) else {}):
        name = str(entries.get("dtype", entries.get("torch_dtype"))).removeprefix("torch.")
        if name in DTYPES:
            return name
    return DTYPES[0]


def _config(source: ModelSource) -> dict[str, Any]:
    """What config.json of a folder or of the hub says; nothing where there is none, as for a GGUF file."""
    if isinstance(source, HubModel):
        # A second of imports, which a folder does without.
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

        try:
            file = Path(hf_hub_download(source.id, CONFIG, revision=source.revision))
        except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
            said = str(error).strip().splitlines()[0]
            raise InputError(
                f"MODEL: {source.id}: no file or folder here, and not to be had from the hub: {said}"
            ) from None
    else:
        assert isinstance(source, PathModel), "an argument names a path or an id on the hub"
        file = Path(source.path) / CONFIG
    if not file.is_file():
        return {}
    config = parse_json(str(file), decode(str(file), file.read_bytes()))
    return config if isinstance(config, dict) else {}


if __name__ == "__main__":
    main()
