"""What writes the dense model's own text, as `sample.engine` has it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from secateurs.devices.placement import place, resolve_device
from secateurs.text.agreement import agreement, check_agreement
from secateurs.text.sampling import Writer, go_on
from secateurs.text.vllm_installed import find_vllm
from secateurs.text.vllm_writer import vllm_writer
from stages.common.checkpoints import load_model
from stages.common.paths import MODEL
from stages.params.file import Params


@contextmanager
def own_writer(params: Params, batch_size: int) -> Iterator[Writer]:
    """What writes text of data/model: our loop, or vLLM.

    When vLLM has ended, some of what it wrote is held against our own model: raises InputError where it was
    drawn from another distribution.
    """
    device = resolve_device(params.compute.device)
    if params.sample.engine == "ours":
        yield partial(go_on, place(load_model(MODEL, params.compute.dtype), params.compute.device))
        return
    found = find_vllm(params.compute.vllm_python)
    with vllm_writer(found, MODEL, params.compute.dtype, device, batch_size) as writer:
        yield writer
    model = place(load_model(MODEL, params.compute.dtype), params.compute.device)
    seen = agreement(model, writer.drawn)
    check_agreement(seen, f"vLLM {found.version}")
    click.echo(
        f"vLLM {found.version}: {seen.tokens:,} of its tokens have a mean log-probability of "
        f"{seen.found:.3f} nats; drawn by the dense model it is {seen.expected:.3f} ± {seen.error:.3f}"
    )


def written_by(params: Params, seed: int) -> dict[str, Any]:
    """What text is recorded to be written by; nothing for our own loop, which the code's commit tells."""
    if params.sample.engine == "ours":
        return {}
    found = find_vllm(params.compute.vllm_python)
    return {"engine": "vLLM", "version": found.version, "seed": seed, "dtype": params.compute.dtype}
