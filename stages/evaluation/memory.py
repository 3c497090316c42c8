"""Peak memory of generating with a checkpoint, measured in a process of its own.

Only a fresh process shows what one model needs: this one has held others, and allocators keep what they had.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import click
import psutil
import torch

from stages.checkpoints.devices import place, resolve_device
from stages.checkpoints.loading import load_model
from stages.common.console import stage
from stages.common.errors import InputError
from stages.evaluation.latency import run_once

SAMPLE_SECONDS = 0.002


def peak_memory(checkpoint: Path, dtype: str, device: str, prompt_tokens: int, tokens: int) -> int:
    """Bytes needed to hold the model, read a prompt and decode `tokens` tokens after it, batch of one.

    device is what `compute.device` may be. On CUDA: the most that the allocators of all devices held.
    Elsewhere: by how much the process's resident memory, sampled while it generates, exceeds what it was
    before the model was loaded (samples can miss a short peak).
    Raises InputError with what the process said when it failed.
    """
    command = [sys.executable, "-m", "stages.evaluation.memory", str(checkpoint), dtype, device]
    command += [str(prompt_tokens), str(tokens)]
    # Without the stage's name nothing is held against dvc.lock, which would count as the model's memory.
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"{checkpoint}: peak memory cannot be measured: {done.stderr.strip()}")
    return int(done.stdout)


@stage
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("dtype")
@click.argument("device")
@click.argument("prompt_tokens", type=int)
@click.argument("tokens", type=int)
def main(checkpoint: Path, dtype: str, device: str, prompt_tokens: int, tokens: int) -> None:
    """Print the peak memory in bytes; what `peak_memory` runs."""
    process = psutil.Process()
    before = process.memory_info().rss
    model = place(load_model(checkpoint, dtype), device)
    if resolve_device(device).type == "cuda":
        run_once(model, prompt_tokens, tokens)
        devices = range(torch.cuda.device_count())
        click.echo(sum(torch.cuda.max_memory_allocated(number) for number in devices))
        return
    peaks = [process.memory_info().rss]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peaks.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    run_once(model, prompt_tokens, tokens)
    done.set()
    watcher.join()
    click.echo(max(peaks) - before)


if __name__ == "__main__":
    main()
