"""llama.cpp reading a GGUF file, in an interpreter of its own that has llama-cpp-python."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateurs.errors import InputError

# Passages come in and results go out as JSON. Everything llama.cpp has to say goes to stderr.
SCRIPT = """
import json, sys
import numpy as np
import llama_cpp

texts = json.load(sys.stdin)
llama = llama_cpp.Llama(sys.argv[1], n_ctx=0, n_batch=512, logits_all=True, verbose=False)
results = []
for text in texts:
    ids = llama.tokenize(text.encode(), add_bos=True, special=True)
    llama.reset()
    llama.eval(ids)
    logits = np.asarray(llama.scores[: len(ids) - 1], dtype=np.float64)
    top = logits.max(axis=1)
    normal = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    results.append({"ids": ids, "losses": (normal - logits[np.arange(len(ids) - 1), ids[1:]]).tolist()})
json.dump({"version": llama_cpp.__version__, "passages": results}, sys.stdout)
"""


@dataclass(frozen=True)
class Passage:
    """A text's tokens and the loss of each but the first, in nats."""

    ids: list[int]
    losses: list[float]


def read_passages(python: Path, file: Path, texts: list[str]) -> tuple[str, list[Passage]]:
    """The version of llama-cpp-python, and each text as llama.cpp tokenises and predicts it.

    python: an interpreter that has llama-cpp-python. Raises InputError with the end of what it said where
    the file does not load.
    """
    command = [str(python), "-I", "-c", SCRIPT, str(file)]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise InputError(f"{file}: llama.cpp cannot load or run it: {said}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found["version"], [Passage(**one) for one in found["passages"]]
