"""What all baselines are given, and how one of them is run on it."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from lab.baselines.catalogue import BASELINES
from lab.baselines.programs.handover import CHECKPOINT, REPORT, Request
from lab.baselines.records import Record, digest, settings_of
from lab.baselines.running import run
from secateurs.checkpoints.loading import load_tokenizer
from secateurs.checkpoints.proof import PROOF_ROWS, PROOF_TOKENS
from secateurs.devices.placement import resolve_device
from secateurs.text.documents import Sequence
from secateurs.text.portions import healing_text
from stages.common.artifacts import read_json, read_sequences
from stages.common.asking import items_of
from stages.common.calibration import read_text
from stages.common.paths import CALIBRATION, HELDOUT, MODEL
from stages.params.file import Params
from stages.params.method import method_settings

CHECK = "check.safetensors"
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Shared:
    """The project's params, an interpreter that has the baselines installed, text, and digests of all inputs.

    heldout: what is scored; text: calibration ids int64 [count, tokens] by domain, those surgery heals by;
    tasks: the items of each zero-shot task, None for a stock one.
    """

    params: Params
    python: Path
    heldout: list[Sequence]
    text: Mapping[str, Tensor]
    tasks: Mapping[str, Path | None]
    digests: Mapping[str, str]

    def settings(self, baseline: str) -> dict[str, Any]:
        """What a record of the baseline depends on."""
        return settings_of(self.digests, self.params, BASELINES.get(baseline))


def read_shared(params: Params, python: Path) -> Shared:
    """Read what the pipeline left in data."""
    tasks = items_of(params.benchmarks)
    digests = {
        "model": digest(MODEL / "config.json", *sorted(MODEL.glob("*.safetensors"))),
        "corpus": digest(CALIBRATION, HELDOUT),
        "benchmarks": digest(*(path for path in tasks.values() if path is not None)),
    }
    text = healing_text(read_text(CALIBRATION), method_settings(params))
    return Shared(params, python, read_sequences(HELDOUT), text, tasks, digests)


@contextmanager
def pruned(shared: Shared, name: str, share: float, without: str = "") -> Iterator[tuple[Path, Record]]:
    """Run a baseline in a process of its own: the directory it wrote, and its own report.

    share: of the decoder's parameters to remove; without: a domain whose text it is not given. The directory
    has a checkpoint with its tokenizer and is gone afterwards. Raises InputError where the program fails.
    """
    baseline = BASELINES[name]
    with TemporaryDirectory(prefix="secateurs-baseline-") as scratch:
        out = Path(scratch)
        given = {domain: ids.contiguous() for domain, ids in shared.text.items() if domain != without}
        check = next(iter(shared.text.values()))[:PROOF_ROWS, :PROOF_TOKENS]
        save_file(given, out / "text.safetensors")
        save_file({"input_ids": check.contiguous()}, out / CHECK)
        Request(
            baseline=name,
            model=str(MODEL.resolve()),
            share=share,
            text=str(out / "text.safetensors"),
            without=without,
            check=str(out / CHECK),
            out=scratch,
            root=str(Path.cwd()),
            device=str(resolve_device(shared.params.compute.device)),
            dtype=shared.params.compute.dtype,
        ).write(out / "request.json")
        python = str(shared.python.absolute()) if baseline.installed else sys.executable
        command = [python, "-m", baseline.program, str(out / "request.json")]
        cost = run(command, out, {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
        load_tokenizer(MODEL).save_pretrained(out / CHECKPOINT)
        yield out, {**read_json(out / REPORT), "seconds": cost.seconds, "peak_bytes": cost.peak_bytes}
