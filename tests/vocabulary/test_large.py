"""A vocabulary of 262,144 tokens, from statistics to a smaller tokenizer, right and in bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT

ROWS = 262_144
# Of the process with its libraries, which take some 0.6 GiB. Logits of all rows at once would be 1 GiB alone.
MOST_BYTES = 2 * 2**30
PROGRAM = """
import json, resource, sys, torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from secateurs.evaluation.perplexity import score_domains
from secateurs.pruner import prune_model
from secateurs.settings.method import settings_of
from secateurs.text.documents import Sequence
from secateurs.text.recutting import recut
from secateurs.text.rows import Text
from tests.tiny import make_tiny_model

def peak():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux what getrusage tells begins at the peak of the process that started this one.
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])

rows, kept = int(sys.argv[1]), 32_768
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
vocabulary = {"<s>": 0, "</s>": 1, **{letter: index + 2 for index, letter in enumerate(alphabet)}}
merges = []
# Pairs, then triples, then fours of letters, until there are enough.
words = list(alphabet)
while len(vocabulary) < rows:
    longer = []
    for word in words:
        for letter in alphabet[:64]:
            if len(vocabulary) == rows:
                break
            if word + letter not in vocabulary:
                vocabulary[word + letter] = len(vocabulary)
                merges.append((word, letter))
                longer.append(word + letter)
    words = longer
backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
backend.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
model = make_tiny_model(vocab_size=rows, hidden_size=16)
# Of text, because some of the merged tokens are never reached: others take their letters first.
drawn = torch.randint(33, 127, (8, 400), generator=torch.Generator().manual_seed(0))
ids = torch.tensor([tokenizer(bytes(row).decode())["input_ids"][:64] for row in drawn.tolist()])
changes = {
    "prune.sparsity": 0.2, "prune.width_multiple": 1, "prune.vocabulary.rows": kept, "device": "cpu",
    "capture.sequences": 4, "surgery.sequences": 6, "surgery.choice_sequences": 2,
}
values, counts = torch.unique(ids, return_counts=True)
found = prune_model(
    model, Text({"text": ids}), settings_of(changes), tokenizer=tokenizer,
    counts={"text": dict(zip(values.tolist(), counts.tolist()))},
)
small, trimmed = found.model, found.tokenizer
old, new = tokenizer.get_vocab(), trimmed.get_vocab()
# Each row that stays is the dense model's own.
before, after = model.get_input_embeddings().weight, small.get_input_embeddings().weight
pairs = torch.tensor([(old[token], index) for token, index in new.items()])
check = [Sequence("text", (), tuple(row)) for row in ids[:2].tolist()]
again = recut(check, tokenizer, trimmed)
scores = score_domains(small, trimmed, again, len(again), tokenizer)
used, stay = set(ids.flatten().tolist()), set(pairs[:, 0].tolist())
print(json.dumps({
    "rows": len(after), "tokens": len(new), "same": bool((before[pairs[:, 0]] == after[pairs[:, 1]]).all()),
    "kept": len(used & stay), "used": len(used),
    "text": [
        trimmed.decode(one.input_ids) == tokenizer.decode(other.input_ids)
        for one, other in zip(again, check, strict=True)
    ],
    "loss": scores["text"].loss, "width": small.config.intermediate_size,
    "peak": peak(),
}))
"""


@pytest.mark.slow
def test_a_vocabulary_of_262144_is_pruned_and_trimmed_in_bounded_memory(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROWS)], cwd=tmp_path, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["rows"], said["tokens"]) == (32_768, 32_768)
    assert said["same"]
    assert said["kept"] == said["used"], "what the text has stays"
    assert said["text"] == [True, True]
    assert 0 < said["loss"] < 40
    assert said["width"] < 48
    assert said["peak"] < MOST_BYTES, said["peak"]
