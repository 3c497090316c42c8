"""The pipeline's own stages at another sparsity: capture and mask of every round, then surgery."""

import importlib.metadata
import shlex
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from stages.checkpoints import load_model
from stages.params import PARAMS_FILE, Params, read_params
from stages.peers.catalogue import PEERS
from stages.peers.programs.handover import CHECKPOINT, Request, hand_over, read_request
from stages.study.settings import changed

# What the stages read that no sparsity changes.
SHARED = ("data/model", "data/corpus", "data/rounds/dense")


def main() -> None:
    """Run the stages in a directory of their own, on the project's model and text."""
    request = read_request()
    out = Path(request.out)
    params = _settle(request, Path(request.root), out)
    commands = [[stage, name] for name in params.chain() for stage in ("stages.capture", "stages.mask")]
    for command in [*commands, ["stages.surgery"]]:
        _run(out, params, command)
    (out / "data/pruned").rename(out / CHECKPOINT)
    _hand_over(request, out / CHECKPOINT, params)


def _settle(request: Request, root: Path, out: Path) -> Params:
    """params.yaml with the sparsity, mixture and settings asked for, and links to what is shared."""
    yaml = YAML()
    data = changed(yaml.load((root / PARAMS_FILE).read_text(encoding="utf-8")), PEERS[request.peer].settings)
    data["prune"]["sparsity"] = request.share
    if request.without:
        data["mixture"][request.without] = 0.0
    yaml.dump(data, out / PARAMS_FILE)
    for name in SHARED:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).symlink_to((root / name).resolve())
    return read_params(out / PARAMS_FILE)


def _run(out: Path, params: Params, command: list[str]) -> None:
    # dvc.yaml starts surgery and capture by compute.launch, mask by python alone.
    launch = "python" if command[0] == "stages.mask" else params.compute.launch
    start = [sys.executable if part == "python" else part for part in shlex.split(launch)]
    done = subprocess.run([*start, "-m", *command], cwd=out, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        # Whoever started this shows the last line: what the stage said.
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def _hand_over(request: Request, checkpoint: Path, params: Params) -> None:
    prune = params.prune
    setting = f"{params.mask.metric}, {len(params.chain())} rounds, {prune.widths}, {', '.join(prune.sites)}"
    version = f"secateurs {importlib.metadata.version('secateurs')}"
    # Surgery has compared the saved model with the one in memory; nothing is saved again.
    hand_over(request, load_model(checkpoint, request.dtype), version, setting, lambda *_: None)


if __name__ == "__main__":
    main()
