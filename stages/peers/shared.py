"""What all peers are given, and one of them run on it."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from stages.artifacts import Sequence, read_json, read_sequences
from stages.checkpoints import load_tokenizer
from stages.devices import resolve_device
from stages.params import Params
from stages.peers.catalogue import PEERS
from stages.peers.programs.handover import CHECKPOINT, REPORT, Request
from stages.peers.records import Record, digest, settings_of
from stages.peers.running import run
from stages.surgery import healing_text

DATA = Path("data")
MODEL = DATA / "model"
CHECK = "check.safetensors"
ROOT = Path(__file__).parents[2]
CHECK_ROWS, CHECK_TOKENS = 2, 64


@dataclass(frozen=True)
class Shared:
    """The project's params, an interpreter that has the peers installed, text, and digests of all inputs.

    heldout: what is scored; text: calibration ids int64 [count, tokens] by domain, those surgery heals by;
    tasks: the items of each zero-shot task, None for a stock one.
    """

    params: Params
    python: Path
    heldout: list[Sequence]
    text: Mapping[str, Tensor]
    tasks: Mapping[str, Path | None]
    digests: Mapping[str, str]

    def settings(self, peer: str) -> dict[str, Any]:
        """What a record of the peer depends on."""
        return settings_of(self.digests, self.params, PEERS.get(peer))


def read_shared(params: Params, python: Path) -> Shared:
    """Read what the pipeline left in data."""
    corpus = DATA / "corpus"
    tasks = {
        task: None if benchmark.source == "stock" else DATA / "benchmarks" / f"{task}.jsonl"
        for task, benchmark in params.benchmarks.items()
    }
    digests = {
        "model": digest(MODEL / "config.json", *sorted(MODEL.glob("*.safetensors"))),
        "corpus": digest(corpus / "calibration.parquet", corpus / "heldout.parquet"),
        "benchmarks": digest(*(path for path in tasks.values() if path is not None)),
    }
    text = healing_text(read_sequences(corpus / "calibration.parquet"), params)
    return Shared(params, python, read_sequences(corpus / "heldout.parquet"), text, tasks, digests)


@contextmanager
def pruned(shared: Shared, name: str, share: float, without: str = "") -> Iterator[tuple[Path, Record]]:
    """Run a peer in a process of its own: the directory it left everything in, and what it says of itself.

    share: of the decoder's parameters to remove; without: a domain whose text it is not given. The directory
    has a checkpoint with its tokenizer and is gone afterwards. Raises InputError where the program fails.
    """
    peer = PEERS[name]
    with TemporaryDirectory(prefix="secateurs-peer-") as scratch:
        out = Path(scratch)
        given = {domain: ids.contiguous() for domain, ids in shared.text.items() if domain != without}
        check = next(iter(shared.text.values()))[:CHECK_ROWS, :CHECK_TOKENS]
        save_file(given, out / "text.safetensors")
        save_file({"input_ids": check.contiguous()}, out / CHECK)
        Request(
            peer=name,
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
        python = str(shared.python.absolute()) if peer.installed else sys.executable
        command = [python, "-m", peer.program, str(out / "request.json")]
        cost = run(command, out, {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
        load_tokenizer(MODEL).save_pretrained(out / CHECKPOINT)
        yield out, {**read_json(out / REPORT), "seconds": cost.seconds, "peak_bytes": cost.peak_bytes}
