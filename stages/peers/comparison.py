"""All peers on one model, one text and one evaluation, and the files in data/peers that come of it."""

import csv
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file

from stages.artifacts import atomic, read_json, read_sequences, write_json
from stages.checkpoints import load_model, load_tokenizer
from stages.devices import place, resolve_device
from stages.errors import InputError
from stages.params import Params
from stages.peers.catalogue import PEERS, Peer
from stages.peers.loading import try_loading
from stages.peers.programs.handover import CHECKPOINT, LOGITS, REPORT, Request
from stages.peers.records import (
    DENSE,
    Record,
    digest,
    evaluate,
    find,
    keep,
    read_records,
    settings_of,
)
from stages.peers.running import run
from stages.peers.table import csv_rows, markdown
from stages.surgery import healing_text

DATA = Path("data")
MODEL = DATA / "model"
ROOT = Path(__file__).parents[2]
CHECK_ROWS, CHECK_TOKENS = 2, 64


class Comparison:
    """The inputs that all peers share, and the records so far."""

    def __init__(self, params: Params, python: Path) -> None:
        self.params, self.python = params, python
        self.heldout = read_sequences(DATA / "corpus/heldout.parquet")
        # What surgery heals by.
        self.text = healing_text(read_sequences(DATA / "corpus/calibration.parquet"), params)
        self.tasks = {
            task: None if benchmark.source == "stock" else DATA / "benchmarks" / f"{task}.jsonl"
            for task, benchmark in params.benchmarks.items()
        }
        self.inputs = {
            "model": digest(MODEL / "config.json", *sorted(MODEL.glob("*.safetensors"))),
            "corpus": digest(DATA / "corpus/calibration.parquet", DATA / "corpus/heldout.parquet"),
            "benchmarks": digest(*(path for path in self.tasks.values() if path is not None)),
        }
        self.model = place(load_model(MODEL, params.compute.dtype), params.compute.device)
        self.file = DATA / "peers/peers.json"
        # Rows of another model, text or evaluation cannot stand in one table with these.
        self.records = [
            one for one in read_records(self.file) if one["settings"] == self._settings(one["peer"])
        ]
        if find(self.records, DENSE, 0.0) is None:
            scores = self._scores(MODEL)
            self._keep({"peer": DENSE, "share": 0.0, "settings": self._settings(DENSE), **scores})

    def add(self, name: str, share: float, again: bool) -> Record:
        """The record of a peer; what is not there yet is run, and the tables are written anew."""
        known = None if again else find(self.records, name, share)
        if known is not None:
            return known
        record: Record = {"peer": name, "share": share, "settings": self._settings(name)}
        try:
            record |= self._run(name, PEERS[name], share)
        except InputError as error:
            record |= {"failed": str(error)}
        self._keep(record)
        return record

    def _run(self, name: str, peer: Peer, share: float) -> Record:
        with TemporaryDirectory(prefix="secateurs-peer-") as scratch:
            out = Path(scratch)
            check = next(iter(self.text.values()))[:CHECK_ROWS, :CHECK_TOKENS]
            save_file(
                {domain: ids.contiguous() for domain, ids in self.text.items()}, out / "text.safetensors"
            )
            save_file({"input_ids": check.contiguous()}, out / "check.safetensors")
            Request(
                peer=name,
                model=str(MODEL.resolve()),
                share=share,
                text=str(out / "text.safetensors"),
                check=str(out / "check.safetensors"),
                out=scratch,
                root=str(Path.cwd()),
                device=str(resolve_device(self.params.compute.device)),
                dtype=self.params.compute.dtype,
            ).write(out / "request.json")
            python = str(self.python.absolute()) if peer.installed else sys.executable
            command = [python, "-m", peer.program, str(out / "request.json")]
            cost = run(command, out, {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
            load_tokenizer(MODEL).save_pretrained(out / CHECKPOINT)
            loads = try_loading(
                out / CHECKPOINT, out / "check.safetensors", out / LOGITS, self.params.compute.dtype
            )
            made = {**read_json(out / REPORT), "seconds": cost.seconds, "peak_bytes": cost.peak_bytes}
            return {**made, "loads": loads, **self._scores(out / CHECKPOINT)}

    def _settings(self, name: str) -> dict[str, Any]:
        return settings_of(self.inputs, self.params, PEERS.get(name))

    def _scores(self, directory: Path) -> Record:
        scores = evaluate(directory, self.model, self.heldout, self.tasks, self.params)
        return {**scores, "threads": torch.get_num_threads()}

    def _keep(self, record: Record) -> None:
        self.records = keep(self.records, record)
        write_json(self.file, self.records)
        with atomic(self.file.with_suffix(".md")) as temporary:
            temporary.write_text(markdown(self.records), encoding="utf-8")
        with (
            atomic(self.file.with_suffix(".csv")) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file).writerows(csv_rows(self.records))
