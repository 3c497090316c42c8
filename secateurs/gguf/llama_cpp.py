"""llama.cpp reading a GGUF file, in an interpreter of its own that has xllamacpp."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateurs.errors import InputError

# Questions come in and results go out as JSON. llama.cpp answers as its server does, on the loopback; what
# else it has to say goes to stderr. A position's answer names every token with its probability, because the
# token that the text goes on with may be an unlikely one.
SCRIPT = """
import json, os, sys, urllib.request
import xllamacpp

answers = os.dup(1)
os.dup2(2, 1)
asked = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = asked["context"]
params.n_parallel = 1
params.warmup = False
params.n_gpu_layers = 0
# In 16 bits, what is kept of earlier tokens would be the largest difference.
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
server = xllamacpp.Server(params)

def ask(route, **question):
    request = urllib.request.Request(
        server.listening_address + route, json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return json.load(answer)

# What is taken next, because there is no answer where that would end the text or be a part of a character. It
# does not change the probabilities, which are those before a bias.
plain = [[ask("/tokenize", content="a")["tokens"][-1], 1e6]]
passages = []
for text in asked["texts"]:
    ids = ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
    step = max(1, (len(ids) - 1) // asked["positions"])
    losses = {}
    for position in range(1, len(ids), step):
        found = ask(
            "/completion", prompt=ids[:position], n_predict=1, n_probs=asked["vocabulary"], logit_bias=plain
        )["completion_probabilities"][0]["top_logprobs"]
        losses[position] = -next(one["logprob"] for one in found if one["id"] == ids[position])
    passages.append({"ids": ids, "losses": losses})
version = __import__("importlib.metadata").metadata.version("xllamacpp")
os.write(answers, json.dumps({"version": version, "passages": passages}).encode())
os._exit(0)
"""


@dataclass(frozen=True)
class Passage:
    """A text's tokens, and the loss of some of them, in nats, by position."""

    ids: list[int]
    losses: dict[int, float]


def read_passages(
    python: Path, file: Path, texts: list[str], vocabulary: int, positions: int = 64
) -> tuple[str, list[Passage]]:
    """The version of xllamacpp, and each text as llama.cpp tokenises and predicts it.

    python: an interpreter that has xllamacpp. vocabulary: the model's number of tokens. positions: of how
    many tokens of a text about the loss is asked for, evenly spread. Raises InputError with the end of what
    it said where the file does not load.
    """
    asked = {
        "texts": texts,
        "vocabulary": vocabulary,
        "positions": positions,
        "context": max(map(len, texts)) + 64,
    }
    command = [str(python), "-I", "-c", SCRIPT, str(file)]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise InputError(f"{file}: llama.cpp cannot load or run it: {said}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found["version"], [
        Passage(one["ids"], {int(position): loss for position, loss in one["losses"].items()})
        for one in found["passages"]
    ]
