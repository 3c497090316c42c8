import os
from pathlib import Path

import pytest

from secateurs.errors import InputError
from secateurs.files.local_files import find_files


def test_names_do_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        inner = tmp_path / folder / "x"
        inner.mkdir(parents=True)
        (inner / "a.txt").write_bytes(b"text")
        assert read_files(f"{tmp_path}/{folder}/**/*.txt", "domains.d.path") == {"x/a.txt": b"text"}


def test_a_single_file_goes_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"text")
    assert read_files(str(tmp_path / "a.txt"), "domains.d.path") == {"a.txt": b"text"}


def test_nothing_found_is_refused_by_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^domains.d.path: .*/\*.txt: no such file$"):
        read_files(f"{tmp_path}/*.txt", "domains.d.path")


def test_a_folder_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"to read all files of the folder, write .*/\*$"):
        read_files(str(tmp_path), "domains.d.path")


def test_brackets_are_no_pattern_where_the_name_exists(tmp_path: Path) -> None:
    (tmp_path / "v[2]").mkdir()
    (tmp_path / "v[2]/docs[1].jsonl").write_bytes(b"one")
    (tmp_path / "v[2]/docs1.jsonl").write_bytes(b"two")
    assert read_files(f"{tmp_path}/v[2]/docs[1].jsonl", "domains.d.path") == {"docs[1].jsonl": b"one"}
    assert read_files(f"{tmp_path}/v[2]/*1.jsonl", "domains.d.path") == {"docs1.jsonl": b"two"}


def test_brackets_are_a_pattern_where_no_such_name_exists(tmp_path: Path) -> None:
    (tmp_path / "docs1.jsonl").write_bytes(b"one")
    assert read_files(f"{tmp_path}/docs[12].jsonl", "domains.d.path") == {"docs1.jsonl": b"one"}


def read_files(pattern: str, key: str) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in find_files(pattern, key).items()}


def names(pattern: object) -> list[str]:
    return sorted(find_files(str(pattern), "domains.d.path"))


def test_any_folders_include_linked_ones(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "elsewhere/deep/b.txt").write_bytes(b"two")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_bytes(b"one")
    (tmp_path / "texts/more").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "texts/**/*.txt") == ["a.txt", "more/deep/b.txt"]
    assert names(tmp_path / "texts/**") == ["a.txt", "more/deep/b.txt"]
    assert names(tmp_path / "texts/*/deep/*.txt") == ["more/deep/b.txt"]


def test_links_in_a_circle_end_and_a_folder_is_read_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "z/inner").mkdir(parents=True)
    (tmp_path / "z/inner/a.txt").write_bytes(b"one")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    for name in ("up", "round"):
        (tmp_path / "z/inner" / name).symlink_to(tmp_path)
    assert names(tmp_path / "**/*.txt") == ["z/inner/a.txt"]
    assert names(tmp_path / "**/inner/**/*.txt") == ["z/inner/a.txt"]


def test_stars_within_a_name_are_a_pattern_of_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    assert names(tmp_path / "**.txt") == ["a.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(InputError, match=r"^domains\.d\.path: .*/closed: cannot be read: Permission denied$"):
        names(tmp_path / "**/*.txt")


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "b.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"^domains\.d\.path: .*/b\.txt: a link to nothing; remove it"):
        names(tmp_path / "*.txt")
