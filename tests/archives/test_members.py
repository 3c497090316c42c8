import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from secateurs.archives import fetching, unpacking
from secateurs.archives.members import read_members
from secateurs.errors import InputError
from secateurs.settings.sources import PackageContent
from tests.text.archives import make_sdist, make_wheel, tarball


def content(member: str, sha256: str, archive: str = "wheel", package: str = "tiny==1.0") -> PackageContent:
    return PackageContent.model_validate(
        {"source": "package", "package": package, "archive": archive, "member": member, "sha256": sha256}
    )


def sha256_of(files: dict[str, bytes]) -> str:
    """What `sha256sum` prints of files, sorted by name, and the sha256 of that."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_member_of_a_wheel_is_read_in_place(index: Path) -> None:
    make_wheel(index, {"tiny/a.txt": b"one", "tiny/b.txt": b"two"})
    sha256 = hashlib.sha256(b"one").hexdigest()
    assert read_members(content("tiny/a.txt", sha256), "domains.d") == {"tiny/a.txt": b"one"}


def test_a_pattern_reaches_into_a_nested_archive_of_a_sdist(index: Path) -> None:
    inner = tarball({"texts/a.txt": b"one", "texts/b.txt": b"two", "texts/c.md": b"three"})
    make_sdist(index, {"more/inner.tar.gz": inner})
    expected = {"more/inner.tar.gz!texts/a.txt": b"one", "more/inner.tar.gz!texts/b.txt": b"two"}
    wanted = content("more/*.tar.gz!texts/*.txt", sha256_of(expected), "sdist")
    assert read_members(wanted, "domains.d") == expected


def test_other_content_than_pinned_is_refused_by_key(index: Path) -> None:
    make_wheel(index, {"tiny/a.txt": b"changed"})
    with pytest.raises(InputError, match=r"domains.news.sha256: 0{64}: .* has sha256 [0-9a-f]{64}"):
        read_members(content("tiny/a.txt", "0" * 64), "domains.news")


def test_no_matching_member_is_refused_by_key(index: Path) -> None:
    make_wheel(index, {"tiny/a.txt": b"one"})
    with pytest.raises(InputError, match=r"domains.d.member: tiny/\*.csv: no such file in the wheel"):
        read_members(content("tiny/*.csv", "0" * 64), "domains.d")


def test_a_package_that_is_nowhere_is_refused_by_key(index: Path) -> None:
    said = "domains.d.package: absent==1.0: the package index has no wheel of it"
    with pytest.raises(InputError, match=said):
        read_members(content("a", "0" * 64, package="absent==1.0"), "domains.d")


def test_versions_that_have_such_an_archive_are_named(index: Path) -> None:
    make_wheel(index, {"tiny/a.txt": b"one"})
    with pytest.raises(
        InputError, match=r"tiny==2.0: the package index has no wheel of it .* with one are 1\.0$"
    ):
        read_members(content("a", "0" * 64, package="tiny==2.0"), "domains.d")


def test_a_wheel_stands_for_no_source_archive(index: Path) -> None:
    make_wheel(index, {"tiny/a.txt": b"one"})
    with pytest.raises(InputError, match=r"tiny==1.0: the package index has no sdist of it"):
        read_members(content("a", "0" * 64, "sdist"), "domains.d")


def test_nothing_of_a_source_archive_is_run(index: Path) -> None:
    marker = make_sdist(index, {"a.txt": b"one"})
    sha256 = hashlib.sha256(b"one").hexdigest()
    assert read_members(content("a.txt", sha256, "sdist"), "domains.d") == {"a.txt": b"one"}
    assert not marker.exists()
    # The example is one that would tell: what pip itself does to a source archive runs the backend.
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=tiny", "tiny==1.0"],
        cwd=index,
        capture_output=True,
        check=False,
    )
    assert marker.exists()


def test_the_fetch_has_what_configures_pip_and_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = ("HF_TOKEN", "GH_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "PYTHONSTARTUP")
    settings = ("PIP_INDEX_URL", "https_proxy", "SSL_CERT_FILE", "HOME")
    for name in (*tokens, *settings):
        monkeypatch.setenv(name, "value")
    found = fetching._environment()
    assert not set(tokens) & set(found)
    assert set(settings) <= set(found)


class Simple(BaseHTTPRequestHandler):
    """An index of one package, as pip asks for it."""

    archive: bytes
    promised: str

    def do_GET(self) -> None:
        name = "tiny-1.0-py3-none-any.whl"
        page = f'<!DOCTYPE html><html><body><a href="/{name}#sha256={self.promised}">{name}</a></body></html>'
        found = {"/simple/tiny/": ("text/html", page.encode()), f"/{name}": ("application/zip", self.archive)}
        kind, body = found.get(self.path, ("text/plain", b""))
        self.send_response(200 if self.path in found else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Simple]]:
    """An index on this machine that pip is told of by its own variable."""
    make_wheel(tmp_path, {"tiny/a.txt": b"one"})
    data = (tmp_path / "tiny-1.0-py3-none-any.whl").read_bytes()
    handler = type("Handler", (Simple,), {"archive": data, "promised": hashlib.sha256(data).hexdigest()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    yield handler
    server.shutdown()
    server.server_close()


ONE = hashlib.sha256(b"one").hexdigest()


def test_the_index_is_the_one_that_pip_is_configured_with(served: type[Simple]) -> None:
    assert read_members(content("tiny/a.txt", ONE), "domains.d") == {"tiny/a.txt": b"one"}


def test_an_archive_that_is_not_what_the_index_promises_is_refused(served: type[Simple]) -> None:
    served.promised = "0" * 64
    with pytest.raises(InputError, match=r"tiny==1.0: pip cannot fetch its wheel: .*HASH"):
        read_members(content("tiny/a.txt", ONE), "domains.d")


def test_a_package_that_the_index_lacks_is_not_called_a_lack_of_network(served: type[Simple]) -> None:
    with pytest.raises(InputError, match=r"absent==1.0: the package index has no wheel of it"):
        read_members(content("a", ONE, package="absent==1.0"), "domains.d")


def test_no_network_is_said_as_such(served: type[Simple], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(InputError, match=r"tiny==1.0: the package index cannot be reached: connection error"):
        read_members(content("tiny/a.txt", ONE), "domains.d")


@pytest.fixture
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "AT_LEAST", 2**20)


ZEROS = bytes(40 * 2**20)


@pytest.mark.usefixtures("_little")
@pytest.mark.parametrize("member", ["a.txt", "b.txt", "in.tar.gz!a.txt", "in.tar.gz!b.txt"])
def test_a_bomb_is_refused_before_it_is_unpacked(index: Path, member: str) -> None:
    """Whether it is the file that is wanted, or one on the way to it."""
    files = {"a.txt": ZEROS, "b.txt": b"two"}
    make_sdist(index, files if "!" not in member else {"in.tar.gz": tarball(files)})
    tracemalloc.start()
    with pytest.raises(InputError, match=r"^domains.d.member: .* unpacks to more than [\d,]+ bytes"):
        read_members(content(member, "0" * 64, "sdist"), "domains.d")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < len(ZEROS) / 4


@pytest.mark.usefixtures("_little")
def test_a_bomb_in_a_wheel_is_refused(index: Path) -> None:
    make_wheel(index, {"tiny/a.txt": ZEROS})
    # make_wheel stores; pack it as wheels are.
    with zipfile.ZipFile(index / "tiny-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/a.txt", ZEROS)
    with pytest.raises(InputError, match="unpacks to more than"):
        read_members(content("tiny/a.txt", "0" * 64), "domains.d")


@pytest.mark.usefixtures("_little")
def test_a_bomb_in_a_header_is_refused(index: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        item = tarfile.TarInfo("tiny-1.0/a.txt")
        item.pax_headers = {"comment": "0" * len(ZEROS)}
        archive.addfile(item)
    (index / "tiny-1.0.tar.gz").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match="unpacks to more than"):
        read_members(content("a.txt", "0" * 64, "sdist"), "domains.d")


def test_a_damaged_archive_is_refused_by_name(index: Path) -> None:
    make_sdist(index, {"a.txt": b"one" * 10000})
    path = index / "tiny-1.0.tar.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"tiny==1.0: neither a zip nor a tar archive that can be read"):
        read_members(content("a.txt", "0" * 64, "sdist"), "domains.d")


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
    # In another order than that of the names.
    make_wheel(index, dict(reversed(files.items())))
    expected = {name: files[name] for name in names}
    if not names:
        with pytest.raises(InputError, match="no such file"):
            read_members(content(pattern, "0" * 64), "domains.d")
        return
    (one, *others) = expected.values()
    pinned = sha256_of(expected) if others else hashlib.sha256(one).hexdigest()
    assert read_members(content(pattern, pinned), "domains.d") == expected
