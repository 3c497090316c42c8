"""Proof that a checkpoint loads: read back in a fresh process from its directory alone, and compared."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.checkpoints.files import compare_files
from secateurs.checkpoints.loading import load_tokenizer
from secateurs.errors import InputError
from secateurs.files.full_disk import check_room, room_for
from secateurs.text.documents import Sequence as Row

# It cannot import this project, because a user of the checkpoint does not have it.
SCRIPT = """
import sys
sys.modules["secateurs"] = None
import json, torch, transformers
from safetensors.torch import load_file, save_file

directory, dtype, batch, text, logits, ids = sys.argv[1:]
text = json.loads(text)
config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=True)
language = type(config) in transformers.AutoModelForCausalLM._model_mapping
auto = transformers.AutoModelForCausalLM if language else transformers.AutoModelForImageTextToText
model = auto.from_pretrained(
    directory, dtype=getattr(torch, dtype), local_files_only=True, trust_remote_code=True
)
with torch.no_grad():
    values = model.eval()(load_file(batch)["input_ids"], use_cache=False).logits.float()
save_file({"logits": values.contiguous()}, logits)
if text:
    tokens = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)(text)["input_ids"]
    with open(ids, "w") as file:
        json.dump(tokens, file)
    transformers.GenerationConfig.from_pretrained(directory, local_files_only=True)
print(transformers.__version__, type(model).__name__)
"""
# Letters with and without accents, other scripts, spaces, digits and code: what tokenizers treat differently.
TEXT = "Naïve café, 東京 and Москва 🙂:\n\tdef f(x):  return x**2 + 3.14  # don't"
# How much text a proof compares logits on.
PROOF_ROWS, PROOF_TOKENS = 2, 64
# Largest root mean square difference of logits, relative to their standard deviation. The fresh process runs
# on the CPU; where the first does so too, both round in the same way and nothing should differ. The tolerance
# is half of the difference that one down_proj makes which is wrong by 5%, in the middle of SmolLM2-135M
# (0.020 in bfloat16, 0.010 in float16).
TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 5e-3, torch.bfloat16: 1e-2}
# Another device rounds in another way, as another attention kernel does: on SmolLM2-135M by 0.020 in bfloat16
# and 0.002 in float16; on deeper models by more.
ACROSS_DEVICES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Proof:
    """The version of transformers and the class that loaded; tokens that were compared; the difference."""

    version: str
    loaded: str
    tokens: int
    difference: float


@dataclass(frozen=True)
class Loaded:
    """What a fresh process gives: the version of transformers, the class that loaded, float32 logits, ids.

    ids: the tokens of the text that it was given; empty where it was given none.
    """

    version: str
    name: str
    logits: Tensor
    ids: tuple[int, ...]


def proof_ids(rows: Sequence[Row]) -> Tensor:
    """The beginnings of rows, all of one length, to compare logits on: int64 [sequences, tokens]."""
    ids = [row.input_ids[:PROOF_TOKENS] for row in rows[:PROOF_ROWS]]
    return torch.tensor([one[: min(map(len, ids))] for one in ids])


@torch.no_grad()
def prove_load(
    model: PreTrainedModel,
    directory: Path,
    input_ids: Tensor,
    shown: Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Proof:
    """Load `directory` in a fresh process and compare its logits and its tokenizer with those of this one.

    input_ids: int64 [sequences, tokens]; shown: what errors call the directory; tokenizer: the one that was
    saved there, or None to read it back. Raises InputError when model, tokenizer or generation config do not
    load or compute something else, when the files hold other weights than the model, and when the config is
    wrong on whether the head is tied to the embeddings.
    """
    expected = model(input_ids.to(model.device), use_cache=False).logits.float().cpu()
    found = load_afresh(directory, input_ids, model.dtype, shown, TEXT)
    tolerance = TOLERANCE if model.device.type == "cpu" else ACROSS_DEVICES
    apart = difference(found.logits, expected, model.dtype, shown, tolerance)
    compare_files(model, directory, shown)
    _compare_ids(found.ids, (tokenizer or load_tokenizer(directory))(TEXT)["input_ids"], shown)
    return Proof(found.version, found.name, input_ids.numel(), apart)


def load_afresh(
    directory: Path, input_ids: Tensor, dtype: torch.dtype, shown: object, text: str = ""
) -> Loaded:
    """Let a process that knows nothing of this project load `directory` and run it on `input_ids`.

    input_ids: int64 [sequences, tokens]; shown: what errors call the directory; text: for its tokenizer; with
    none, tokenizer and generation config are left alone. Raises InputError when that process fails.
    """
    with TemporaryDirectory(prefix="secateurs-") as scratch, room_for(scratch):
        batch, logits, ids = (Path(scratch, name) for name in ("batch", "logits", "ids"))
        save_file({"input_ids": input_ids.contiguous()}, batch)
        arguments = [str(directory.resolve()), str(dtype).removeprefix("torch."), str(batch)]
        # As JSON the text is ASCII, which arrives unchanged in any locale.
        arguments += [json.dumps(text), str(logits), str(ids)]
        # transformers copies a checkpoint's modelling file to a cache of modules; this one is deleted
        # afterwards.
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": scratch, "PYTHONPATH": ""}
        done = subprocess.run(
            [sys.executable, "-P", "-c", SCRIPT, *arguments],
            cwd=scratch,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            check_room(done.stderr, scratch)
            said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            part = "generation config" if ids.exists() else "tokenizer" if logits.exists() else "checkpoint"
            raise InputError(f"{shown}: the {part} does not load in a fresh process: {said}")
        version, name = done.stdout.split()[-2:]
        tokens = json.loads(ids.read_text(encoding="utf-8")) if text else []
        return Loaded(version, name, load_file(logits)["logits"], tuple(tokens))


def difference(
    found: Tensor,
    expected: Tensor,
    dtype: torch.dtype,
    shown: object,
    tolerance: Mapping[torch.dtype, float] = ACROSS_DEVICES,
) -> float:
    """Root mean square difference of logits, relative to the spread of the expected ones.

    Raises InputError, which calls the checkpoint `shown`, where it is more than the tolerance of `dtype`.
    """
    if found.shape != expected.shape:
        raise InputError(
            f"{shown}: the loaded checkpoint gives logits of shape {list(found.shape)}, "
            f"not {list(expected.shape)}"
        )
    apart = float((found - expected).square().mean().sqrt() / expected.std())
    if not apart <= tolerance[dtype]:
        raise InputError(
            f"{shown}: the loaded checkpoint computes something else than the model in memory: "
            f"logits differ by {apart:.2g} of their spread"
        )
    return apart


def _compare_ids(found: Sequence[int], expected: Sequence[int], shown: object) -> None:
    if not found or list(found) != list(expected):
        raise InputError(
            f"{shown}: the loaded tokenizer gives other ids than the one in memory: "
            f"{list(found)[:6]}..., not {list(expected)[:6]}..."
        )
