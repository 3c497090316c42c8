import json
import subprocess
import sys

import pytest

from tests.text.loopback import COMMIT, environment, hub

LINES = b"".join(b'{"text": "Document %d.", "number": %d}\n' % (index, index) for index in range(5))
SCRIPT = """
import json, sys
from secateurs.errors import InputError
from secateurs.settings.sources import HubDomain
from secateurs.text.domains import documents
for fields in json.loads(sys.argv[1]):
    domain = HubDomain.model_validate({"source": "hub", "config": None, "documents": 2, **fields})
    try:
        print(*[f"{item.document} {item.text}" for item in documents("d", domain)], sep="; ")
    except InputError as error:
        print(error)
"""
FINE = {"id": "owner/data", "revision": COMMIT, "split": "train", "field": "text"}
CASES = {
    "fine": FINE,
    "split": {**FINE, "split": "test"},
    "field": {**FINE, "field": "body"},
    "number": {**FINE, "field": "number"},
    "config": {**FINE, "config": "other"},
    "missing": {**FINE, "id": "owner/none"},
    "gated": {**FINE, "id": "owner/secret"},
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    # A process of its own, because the library reads the hub's address when it is imported; one for all
    # cases, because that import takes seconds.
    command = [sys.executable, "-c", SCRIPT, json.dumps(list(CASES.values()))]
    with hub({"datasets/owner/data": {"train.jsonl": LINES}}, gated="owner/secret") as address:
        env = environment(address, tmp_path_factory.mktemp("home"))
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return dict(zip(CASES, done.stdout.splitlines(), strict=True))


def test_documents_are_streamed_up_to_the_limit(answers: dict[str, str]) -> None:
    assert answers["fine"] == "owner/data:train:0 Document 0.; owner/data:train:1 Document 1."


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("split", "domains.d.split: test: owner/data has no such split; it has train"),
        ("field", "domains.d.field: body: owner/data has no such field; it has text, number"),
        ("number", "domains.d.field: number: holds int; it must be text"),
        ("config", "domains.d.config: other: cannot be read: BuilderConfig 'other' not found"),
        ("missing", "domains.d.id: owner/none: cannot be read: Dataset 'owner/none'"),
        ("gated", "domains.d.id: owner/secret: cannot be read: Dataset 'owner/secret' is a gated dataset"),
    ],
)
def test_what_cannot_be_read_is_refused_by_key(answers: dict[str, str], case: str, message: str) -> None:
    assert answers[case].startswith(f"{message}")
