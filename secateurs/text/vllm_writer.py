"""Text that vLLM writes: as sampling.go_on does, in a process of its own.

vLLM asks for exact versions of torch and transformers, seldom those of this project. So it runs under a
Python of the user's choice (vllm_worker.py), which takes and gives token ids: templates, tokenizers and the
ends of texts are the same as for our own loop.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import torch

from secateurs.errors import InputError
from secateurs.progress import counter
from secateurs.text import vllm_worker
from secateurs.text.agreement import Drawn
from secateurs.text.sampling import Draw, Lots, seed_of
from secateurs.text.vllm_installed import Installed

# Of each kind of text, so many are later held against our own model.
CHECKED = 16
# Seconds that a process that is no longer needed has to end.
GRACE = 20


@dataclass(frozen=True)
class VllmWriter:
    """Writes as sampling.go_on does. drawn: texts of each kind, to be held against our own model."""

    process: "subprocess.Popen[str]"
    log: IO[bytes]
    drawn: list[Drawn] = field(default_factory=list)

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: int,
        draw: Draw,
        lots: Lots,
        *,
        ends: frozenset[int] = frozenset(),
        label: str = "sample",
    ) -> list[list[int]]:
        """What go_on gives: another draw of the same distribution."""
        first, temperature = min(draw.opening[0], tokens), draw.opening[1]
        written: list[list[int]] = [[] for _ in prompts]
        if first:
            opening = replace(lots, key=f"{lots.key}:opening")
            written = self._write(
                dict(enumerate(prompts)), first, Draw(temperature, draw.min_p), opening, ends, label
            )
        going = {
            number: [*prompt, *written[number]]
            for number, prompt in enumerate(prompts)
            if len(written[number]) == first < tokens and not {*written[number][-1:]} & ends
        }
        rest = self._write(going, tokens - first, draw, lots, ends, label)
        for number, ids in zip(going, rest, strict=True):
            written[number] = written[number] + ids
        self.drawn.extend(
            Drawn(tuple(prompt), tuple(ids), draw)
            for prompt, ids in list(zip(prompts, written, strict=True))[:CHECKED]
        )
        return written

    def _write(
        self,
        prompts: Mapping[int, Sequence[int]],
        tokens: int,
        draw: Draw,
        lots: Lots,
        ends: frozenset[int],
        label: str,
    ) -> list[list[int]]:
        """`tokens` ids after each prompt, or fewer; random numbers by the key and a prompt's number alone."""
        if not prompts:
            return []
        asked = {
            "prompts": [list(prompt) for prompt in prompts.values()],
            "tokens": tokens,
            "temperature": draw.temperature,
            "min_p": draw.min_p,
            "seeds": [seed_of(lots.key, number) for number in prompts],
            "ends": sorted(ends),
        }
        with counter(label, "texts", len(prompts)) as bar:
            answer = self.ask(asked)
            while "ended" in answer:
                bar.update(answer["ended"])
                answer = self._answer()
        written: list[list[int]] = answer["ids"]
        return written

    def ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The first answer to a line of JSON. Raises InputError where vLLM fails or has ended."""
        assert self.process.stdin is not None
        # Why it has ended is in its last answer, or in its log.
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise InputError(f"sample.engine: vllm: {' '.join(answer['error'].split())[:800]}")
        return answer

    def _last_words(self) -> str:
        status = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with status {status}{': ' + lines[-1] if lines else ''}"


@contextmanager
def vllm_writer(
    found: Installed, model: Path, dtype: str, device: torch.device, batch_size: int
) -> Iterator[VllmWriter]:
    """vLLM with a checkpoint on a device, ready to write `batch_size` texts at once.

    Raises InputError, with what vLLM says, where it cannot load the model or has no such device.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [found.python, vllm_worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=_environment(device),
        )
        try:
            writer = VllmWriter(process, log)
            asked = {"model": str(model.resolve()), "dtype": dtype, "device": device.type}
            writer.ask(asked | {"batch_size": batch_size, "seed": 0})
            yield writer
        finally:
            _end(process)


def _environment(device: torch.device) -> dict[str, str]:
    """One process, no messages to its makers, nothing from a hub, and the one accelerator that is meant."""
    ours = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "HF_HUB_OFFLINE": "1",
    }
    if device.type == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = (
            visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
        )
        ours["CUDA_VISIBLE_DEVICES"] = names[device.index or 0]
    return os.environ | ours


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process: it ends by itself where it has nothing more to read."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
