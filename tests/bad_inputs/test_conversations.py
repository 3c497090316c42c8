"""Conversations that the model's chat template refuses: said by domain and row before any text is sampled."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages import model, sample, sources
from stages.common.artifacts import read_documents
from tests.bad_inputs.local import local_params, make_project, said
from tests.families.test_boundaries import REFUSING
from tests.project import ROOT, invoke
from tests.text.archives import make_wheel
from tests.text.loopback import COMMIT, environment, hub
from tests.text.test_dialogues import chat_tokenizer
from tests.tiny import make_tiny_model


def sharegpt(number: int) -> list[dict[str, Any]]:
    return [{"from": "human", "value": f"Hi {number}?"}, {"from": "gpt", "value": f"Yes, {number}."}]


def in_parts(number: int) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": [{"type": "text", "text": f"Hi {number}?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": f"Yes, {number}."}]},
    ]


FORMS = {"sharegpt": sharegpt, "parts": in_parts}


def lines(form: str) -> bytes:
    """Twenty conversations, of which the last has a system turn."""
    turns = [FORMS[form](number) for number in range(20)]
    turns[-1].insert(
        0, {"from": "system", "value": "Be."} if form == "sharegpt" else {"role": "system", "content": "Be."}
    )
    return "".join(f"{json.dumps({'turns': one})}\n" for one in turns).encode()


def by_path(data: bytes) -> tuple[dict[str, Any], str]:
    Path("chats.jsonl").write_bytes(data)
    reader = {"format": "jsonl", "field": "turns"}
    return {"source": "path", "path": "chats.jsonl", "reader": reader}, "chats.jsonl:20"


def by_package(data: bytes) -> tuple[dict[str, Any], str]:
    make_wheel(Path(), {"tiny/chats.jsonl": data})
    sha256 = hashlib.sha256(data).hexdigest()
    content = {"package": "tiny==1.0", "archive": "wheel", "member": "tiny/chats.jsonl", "sha256": sha256}
    reader = {"format": "jsonl", "field": "turns"}
    return {"source": "package", **content, "reader": reader}, "tiny/chats.jsonl:20"


def by_hub(data: bytes) -> tuple[dict[str, Any], str]:
    named = {"id": "owner/data", "revision": COMMIT, "split": "train", "field": "turns"}
    return {"source": "hub", **named}, "owner/data:train:19"


def read(data: bytes, home: Path) -> None:
    """Run the sources stage; a process of its own, because `datasets` reads the hub's address when imported."""
    with hub({"datasets/owner/data": {"train.jsonl": data}}) as address:
        env = environment(address, home) | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "stages.sources", "chats"]
        subprocess.run(command, env=env, capture_output=True, check=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("source", [by_path, by_package, by_hub])
def test_the_domain_and_the_row_are_named_before_text_is_sampled(
    source: Any, form: str, here: Path, index: Path
) -> None:
    make_tiny_model().save_pretrained("model")
    chat_tokenizer(REFUSING).save_pretrained("model")
    data = lines(form)
    content, row = source(data)
    mixture = {"chats": 1.0, "self": 1.0, "dialogues": 0.0}
    domains = {"chats": content | {"documents": 50}}
    make_project(here, local_params(Path("model"), domains=domains, mixture=mixture, benchmarks={}))
    invoke(model.main)
    if source is by_hub:
        read(data, here / "home")
    else:
        invoke(sources.main, "chats")
    found = read_documents(Path("data/sources/chats.parquet"))
    assert json.loads(found[3].text) == [
        {"role": "user", "content": "Hi 3?"},
        {"role": "assistant", "content": "Yes, 3."},
    ]
    assert said(sample.main) == (
        f"params.yaml: domains.chats: {row}: the model's chat template refuses it: no system; correct the row, or "
        "have such rows left out and counted: domains.chats.refused: drop"
    )
    assert not Path("data/sources/self.parquet").exists()
