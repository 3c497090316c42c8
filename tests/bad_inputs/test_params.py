"""params.yaml itself, and the names and numbers in it that no stage can take."""

from pathlib import Path
from typing import Any

import pytest

from stages import plan
from tests.bad_inputs.local import LINES, local_params, make_project, said
from tests.bad_inputs.test_texts import POINTER

LARGEST = "Input should be less than or equal to 2147483647"
ONE_LINE = "must be one line of text, without control characters"
HOME = "no such file: Could not determine home directory."

FILES: dict[str, tuple[bytes | None, str]] = {
    "empty": (b"", "empty, not a mapping of groups; fetch the file again"),
    "a list": (b"- model", "a list or value, not a mapping of groups; fetch the file again"),
    "a pointer of Git LFS": (POINTER, "plain text, not a mapping of groups; fetch the file again"),
    "utf-16": ("model: x".encode("utf-16"), "not UTF-8 text at byte 0; save it as UTF-8"),
    "a folder": (None, "cannot be read: Is a directory"),
}

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "too many texts": ({"sample__documents": 2**31}, f"sample.documents: 2147483648: {LARGEST}"),
    "too many items": ({"evaluate__limit": 10**20}, f"evaluate.limit: 100000000000000000000: {LARGEST}"),
    "a batch beyond numbers": ({"capture__batch_size": 2**64},
        f"capture.batch_size: 18446744073709551616: {LARGEST}"),
    "as good as no temperature": ({"sample__temperature": 1e-320},
        "sample.temperature: 1e-320: Input should be greater than or equal to 0.001"),
    "a ridge beyond all": ({"surgery__ridge": 1e308},
        "surgery.ridge: 1e+308: Input should be less than or equal to 1000000"),
    "nobody's home": ({"model__path": "~nobody-here/m"}, f"model.path: ~nobody-here/m: {HOME}"),
    "nobody's text": ({"domains": {"tales": LINES | {"path": "~nobody-here/t"}}},
        f"domains.tales.path: ~nobody-here/t: {HOME}"),
    "too long a name": ({"domains": {"tales": LINES | {"path": "a" * 300}}},
        f"domains.tales.path: {'a' * 60}: no such file: File name too long"),
    "two lines in a path": ({"domains": {"tales": LINES | {"path": "a\nb"}}},
        f"domains.tales.path: 'a\\nb': {ONE_LINE}"),
    "a null byte in a path": ({"benchmarks": {"openbookqa": {"source": "path", "path": "a\0b"}}},
        f"benchmarks.openbookqa.path: 'a\\x00b': {ONE_LINE}"),
    "two lines in a member": ({"benchmarks": {"piqa": {"source": "package", "package": "a==1", "archive": "wheel",
                                                       "member": "m\nn", "sha256": "0" * 64}}},
        f"benchmarks.piqa.member: 'm\\nn': {ONE_LINE}"),
    "a device in other digits": ({"compute__device": "cuda:\u0663"},
        "compute.device: 'cuda:\u0663': must be auto, cpu, mps, sharded, cuda or cuda:NUMBER"),
    "a device of too many digits": ({"compute__device": "cuda:99999999999999999999"},
        "compute.device: 'cuda:99999999999999999999': must be auto, cpu, mps, sharded, cuda or cuda:NUMBER"),
    "a domain of too long a name": (
        {"domains": {"t" * 300: LINES}, "mixture": {"t" * 300: 1.0, "self": 1.0, "dialogues": 0.0}},
        f"mixture.{'t' * 110}…: '{'t' * 119}…: must be a name of at most 100 letters, digits, _ and -, beginning with a "
        "letter"),
    "a domain whose changes DVC overlooks": (
        {"domains": {"size": LINES | {"path": "*.jsonl"}}, "mixture": {"size": 1.0, "self": 1.0, "dialogues": 0.0}},
        "domains.size: DVC would overlook a change of its weight; give it another name"),
    "n-grams longer than any item": ({"corpus__ngram": 10**9},
        "corpus.ngram: 1000000000: Input should be less than or equal to 100"),
    "an id on the hub that is none": ({"model__base_model": "nonsense"},
        "model.base_model: 'nonsense': must be an id on the hub, `owner/name`"),
    "a share of a kind that does not go": ({"prune__shares": {"attention": 1.0}},
        "prune.shares: {'attention': 1.0}: must have a share for each of prune.sites: ['mlp'], and for nothing "
        "else; with auto, or to go by scores, set it to {}"),
    "kinds that are found and named": ({"prune__sites": "auto", "prune__shares": {"mlp": 1.0}},
        "prune.shares: {'mlp': 1.0}: must have a share for each of prune.sites: auto, and for nothing else; with "
        "auto, or to go by scores, set it to {}"),
    "bytes beyond all": ({"prune__memory": {"bytes": 2**63, "precision": "q4_0"}, "prune__sparsity": ...},
        "prune.memory.bytes: 9223372036854775808: Input should be less than or equal to 9223372036854775807"),
    "no multiply-adds": ({"prune__multiply_adds": 0, "prune__sparsity": ...},
        "prune.multiply_adds: 0: Input should be greater than or equal to 1"),
    "a shell command": ({"compute__launch": "touch x; python"},
        "compute.launch: 'touch x; python': must be `python`, or `python -m torch.distributed.run` with options "
        "for processes and nodes"),
    "a package without a version": ({"benchmarks": {"piqa": {"source": "package", "package": "a", "archive": "wheel",
                                                             "member": "m", "sha256": "0" * 64}}},
        "benchmarks.piqa.package: 'a': must be a package with its version, `name==1.2.3`"),
}  # fmt: skip
LONG = f"params.yaml: domains.{'t' * 110}…: '{'t' * 119}…: must be a name of at most 100 letters, digits, _ and -"
# Lines of a message that come before the last one.
BEFORE = {"a domain of too long a name": (f"{LONG}, beginning with a letter",)}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_params_is_refused(case: str, here: Path) -> None:
    data, message = FILES[case]
    path = Path("params.yaml")
    if data is None:
        path.mkdir()
    else:
        path.write_bytes(data)
    assert said(plan.main, "--check") == f"params.yaml: {message}"


@pytest.mark.parametrize("case", CASES)
def test_a_value_that_nothing_can_take_is_refused(case: str, here: Path, dense_dir: Path) -> None:
    changes, message = CASES[case]
    make_project(here, local_params(dense_dir, **changes))
    assert said(plan.main, "--check", before=BEFORE.get(case, ())) == f"params.yaml: {message}"


@pytest.mark.parametrize("key", ["id", "revision"])
def test_two_lines_in_what_the_model_card_names_are_refused(key: str, here: Path, dense_dir: Path) -> None:
    params = local_params(dense_dir)
    hub = {"source": "hub", "id": "some/model", "revision": "main", "name": "tiny", "licence": "none"}
    make_project(here, params | {"model": hub | {key: "x\nlicense: mit"}})
    assert said(plan.main, "--check") == f"params.yaml: model.{key}: 'x\\nlicense: mit': {ONE_LINE}"


def test_an_unfinished_merge_of_the_lock_is_named(here: Path, dense_dir: Path) -> None:
    make_project(here, local_params(dense_dir))
    Path("data/model").mkdir(parents=True)
    Path("data/model/config.json").write_text("{}", encoding="utf-8")
    Path("dvc.lock").write_text("<<<<<<< HEAD\nstages: {}\n=======\n", encoding="utf-8")
    assert said(plan.main, "--check") == (
        "dvc.lock: not valid YAML, perhaps a merge that was not finished; restore it by git"
    )
