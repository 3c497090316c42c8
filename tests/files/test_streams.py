"""Files as streams: what is held of them does not grow with their size, and what no text is, is said."""

import gzip
from pathlib import Path

import pytest

from secateurs.errors import InputError
from secateurs.files import streams
from secateurs.files.streams import lines, text_lines, whole


@pytest.mark.parametrize("size", [1, 7, 2**20])
def test_lines_are_the_same_however_the_file_is_cut(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_PIECE", size)
    data = "\ufeffone\r\n\n  \ntw\u00f6\rtwo\u2028still\nlast".encode()
    (tmp_path / "a").write_bytes(data)
    expected = [("a", 1, "one"), ("a", 4, "tw\u00f6\rtwo\u2028still"), ("a", 5, "last")]
    for content in (data, tmp_path / "a", gzip.compress(data)):
        assert list(lines({"a": content})) == expected


def test_a_line_longer_than_any_text_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_BYTES", 100)
    with pytest.raises(InputError, match=r"^a:2: a line of more than 100 bytes; break it$"):
        list(text_lines("a", b"short\n" + b"x" * 101))


def test_a_file_that_is_read_in_one_piece_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_BYTES", 100)
    assert len(whole("a", b"x" * 100)) == 100
    message = r"^a: more than 100 bytes, which are read as one piece; split the file, or set a reader"
    for content in (b"x" * 101, gzip.compress(b"x" * 101)):
        with pytest.raises(InputError, match=message):
            whole("a", content)


def test_a_gzip_file_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_UNPACKED", 2**21)
    with pytest.raises(InputError, match=r"^a: unpacks to more than 2,097,152 bytes; split the file$"):
        list(text_lines("a", gzip.compress(b"x\n" * 2**21)))


def test_zeros_far_into_a_file_are_no_text() -> None:
    with pytest.raises(InputError, match=r"^a: not UTF-8 text: 3145728 of its 4194304 bytes are zero"):
        list(text_lines("a", b"x\n" * 2**19 + bytes(3 * 2**20)))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^a: cannot be read: Is a directory$"):
        list(text_lines("a", tmp_path))
