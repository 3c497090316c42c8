"""A program for tests under torchrun: a recovery over several processes, as JSON from the first of them.

Arguments: a folder for snapshots, and after how many steps to stop and leave one there; 0: not at all.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from secateurs.devices.placement import process_group
from secateurs.progress import is_first
from secateurs.recover.distillation import recover
from secateurs.recover.sharding import sharded, whole_weights
from secateurs.recover.training import Snapshot, Texts
from stages.recovering.snapshots import read_snapshot, write_snapshot
from tests.recover.test_distillation import LEFT_OUT, MIXTURE, SEQUENCES, TRAINING, pruned
from tests.tiny import make_tiny_model


def main(folder: Path, stop: int) -> None:
    path, cpu = folder / "snapshot.safetensors", torch.device("cpu")

    def on_step(take: Callable[[], Snapshot]) -> None:
        snapshot = take()
        if len(snapshot.course.losses) == stop:
            write_snapshot(path, snapshot)
            raise KeyboardInterrupt

    with process_group(cpu):
        teacher = make_tiny_model()
        student = sharded(pruned(teacher), cpu, None)
        texts, snapshot = Texts(SEQUENCES, LEFT_OUT, MIXTURE), read_snapshot(path)
        teacher = sharded(teacher.requires_grad_(False), cpu, None)
        try:
            course = recover(
                student, teacher, texts, TRAINING, autocast=None, snapshot=snapshot, on_step=on_step
            )
        except KeyboardInterrupt:
            return
        weights = whole_weights(student)
        if is_first():
            sums = {name: float(weight.double().abs().sum()) for name, weight in weights.items()}
            print(json.dumps({"course": asdict(course), "weights": sums}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
