"""Peak memory of generating with a checkpoint, measured in a process of its own.

Only a fresh process shows what one model needs: this one has held others, and allocators keep what they had.
"""

import subprocess
import sys
import threading
from pathlib import Path

import click
import psutil
import torch

from secateurs.checkpoints.loading import load_model
from secateurs.devices.placement import place, resolve_device
from secateurs.errors import InputError
from secateurs.evaluation.latency import run_once

SAMPLE_SECONDS = 0.002


def peak_memory(checkpoint: Path, dtype: str, device: str, prompt_tokens: int, tokens: int) -> int:
    """Bytes needed to hold the model, read a prompt and decode `tokens` tokens after it, batch of one.

    device is what `compute.device` may be. On CUDA: the most that the allocators of all devices held.
    Elsewhere: by how much the process's resident memory, sampled while it generates, exceeds what it was
    before the model was loaded (samples can miss a short peak).
    Raises InputError with what the process said when it failed.
    """
    command = [sys.executable, "-m", "secateurs.evaluation.peak_memory", str(checkpoint), dtype, device]
    command += [str(prompt_tokens), str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"{checkpoint}: peak memory cannot be measured: {done.stderr.strip()}")
    return int(done.stdout)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("dtype")
@click.argument("device")
@click.argument("prompt_tokens", type=int)
@click.argument("tokens", type=int)
def main(checkpoint: Path, dtype: str, device: str, prompt_tokens: int, tokens: int) -> None:
    """Print the peak memory in bytes; what `peak_memory` runs."""
    try:
        click.echo(_peak(checkpoint, dtype, device, prompt_tokens, tokens))
    except InputError as error:
        raise click.ClickException(str(error)) from None


def _peak(checkpoint: Path, dtype: str, device: str, prompt_tokens: int, tokens: int) -> int:
    process = psutil.Process()
    before = process.memory_info().rss
    model = place(load_model(checkpoint, dtype), device)
    if resolve_device(device).type == "cuda":
        run_once(model, prompt_tokens, tokens)
        devices = range(torch.cuda.device_count())
        return sum(torch.cuda.max_memory_allocated(number) for number in devices)
    peaks: list[int] = [process.memory_info().rss]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peaks.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    run_once(model, prompt_tokens, tokens)
    done.set()
    watcher.join()
    return max(peaks) - before


if __name__ == "__main__":
    main()
