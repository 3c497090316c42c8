"""Every key of params.yaml and of the presets says, where it stands, what it is."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from stages.params.overlay import preset_names
from tests.project import PARAMS, params_file

PRESETS = preset_names()
# Their entries are named by whoever writes the file.
NAMED = ("domains", "benchmarks", "mixture", "rounds")
Key = tuple[str, ...]


def comments(file: Path) -> Iterator[tuple[Key, str]]:
    """Each key with the comment above and beside it, without the marks; "" where there is none."""
    lines = file.read_text(encoding="utf-8").splitlines()
    path: Key = ()
    for number, line in enumerate(lines):
        key = re.match(r"( *)([\w-]+):(?: |$)", line)
        if not key:
            continue
        path = (*path[: len(key[1]) // 2], key[2])
        above: list[str] = []
        while (before := lines[number - len(above) - 1]).startswith(f"{key[1]}# "):
            above.insert(0, before.strip("# "))
        beside = re.search(r" {2}# (.+)$", line)
        yield path, " ".join([*above, *([beside[1]] if beside else [])])


def kind(key: Key) -> Key:
    """The key with the name of a domain, benchmark or round left open."""
    return (key[0], "*", *key[2:]) if len(key) > 1 and key[0] in NAMED else key


def first_comments(file: Path) -> dict[Key, str]:
    """The comment of the first key of each kind."""
    found: dict[Key, str] = {}
    for key, comment in comments(file):
        found.setdefault(kind(key), comment)
    return found


@pytest.mark.parametrize("name", [PARAMS.stem, *PRESETS])
def test_every_key_has_a_comment_of_its_own(name: str, tmp_path: Path) -> None:
    found = first_comments(params_file(name, tmp_path))
    assert len(found) > 60
    assert [key for key, comment in found.items() if not comment] == []


@pytest.mark.parametrize("name", [PARAMS.stem, *PRESETS])
def test_every_domain_has_a_comment_of_its_own(name: str, tmp_path: Path) -> None:
    file = params_file(name, tmp_path)
    found = {key[1]: comment for key, comment in comments(file) if key[0] == "domains" and len(key) == 2}
    assert len(set(found.values()) - {""}) == len(found)


def test_the_rounds_say_what_the_keys_beside_each_other_are() -> None:
    comment = first_comments(PARAMS)["rounds", "*"]
    assert "after: " in comment
    assert "progress: " in comment


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_explains_a_key_as_params_do(name: str, tmp_path: Path) -> None:
    ours, theirs = first_comments(PARAMS), first_comments(params_file(name, tmp_path))
    # What stands in these depends on where a model, a text or a task comes from.
    shared = [key for key in ours if len(key) == 1 or key[0] not in {"model", "domains", "benchmarks"}]
    assert {key: theirs[key] for key in shared} == {key: ours[key] for key in shared}


def test_dvcs_settings_leave_the_comments(tmp_path: Path) -> None:
    file = Path(shutil.copy(PARAMS, tmp_path))
    apply_overrides(file, ["prune.sites=[mlp,attention]", "mixture.news=0", "surgery.reconstruct.epochs=4"])
    assert dict(comments(file)) == dict(comments(PARAMS))
