"""Files of text that cannot be read: each is refused by one line that names file, cause and remedy."""

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages import plan, sources
from tests.bad_inputs.local import LINES, local_params, make_project, said

WORDS = pa.array([f"a text of its own, number {index}" for index in range(50)])


def parquet(column: pa.Array, compression: str = "none") -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": column}), stream, compression=compression)
    return stream.getvalue()


def twice() -> bytes:
    """A Parquet file with two columns of one name."""
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([WORDS, WORDS], names=["text", "text"]), stream)
    return stream.getvalue()


def damaged(data: bytes) -> bytes:
    """A Parquet file whose first page is overwritten; its head and its foot are sound."""
    return data[:30] + b"\x00" * 60 + data[90:]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
TEXT, JSONL, CSV, PARQUET = (
    {"format": "text"},
    {"format": "jsonl", "field": "text"},
    {"format": "csv", "field": "text"},
    {"format": "parquet", "field": "text"},
)
LISTS = "column 'text' holds list<element: string>; it must be text, so join the parts of each row "
LISTS += "in a column of text"

# File name, content, reader, what is said after `params.yaml: domains.tales.path: `.
CASES: dict[str, tuple[str, bytes, dict[str, str], str]] = {
    "latin1": ("a.txt", "fine\nd\xe9j\xe0".encode("latin-1"), TEXT,
        "a.txt:2: not UTF-8 text: invalid continuation byte; save the file as UTF-8"),
    "utf16": ("a.txt", "text".encode("utf-16"), TEXT,
        "a.txt:1: not UTF-8 text: invalid start byte; the file is UTF-16; save it as UTF-8"),
    "utf16 without a mark": ("a.txt", "text".encode("utf-16-le"), TEXT,
        "a.txt: not UTF-8 text: 4 of its 8 bytes are zero, as in UTF-16 and in files that are no text; save the file "
        "as UTF-8"),
    "no text at all": ("a.csv", bytes(range(16)) * 2 + bytes(9), CSV,
        "a.csv: not UTF-8 text: 11 of its 41 bytes are zero, as in UTF-16 and in files that are no text; save the "
        "file as UTF-8"),
    "xz": ("a.txt", b"\xfd7zXZ\x00\x00", TEXT,
        "a.txt:1: not UTF-8 text: invalid start byte; the file is compressed by xz; unpack it, or use gzip"),
    "zstd": ("a.txt", b"\x28\xb5\x2f\xfd\x00", TEXT,
        "a.txt:1: not UTF-8 text: invalid start byte; the file is compressed by zstd; unpack it, or use "
        "gzip"),
    "git lfs": ("a.txt", POINTER, TEXT,
        "a.txt: a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository"),
    "git lfs of parquet": ("a.parquet", POINTER, PARQUET,
        "a.parquet: a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository"),
    "half a gzip": ("a.txt.gz", gzip.compress(bytes(range(100)))[:60], TEXT,
        "a.txt.gz: a damaged gzip file: Compressed file ended before the end-of-stream marker was reached; "
        "fetch it again"),
    "json cut short": ("a.jsonl", b'{"text": "one"}\n{"text": ', JSONL,
        "a.jsonl:2: not valid JSON: Expecting value: line 1 column 10 (char 9); correct or remove it"),
    "json without the field": ("a.jsonl", b'{"body": "one", "id": 1}', JSONL,
        "a.jsonl:1: no field 'text'; the line has body, id"),
    "json number": ("a.jsonl", b'{"text": 3}', JSONL,
        "a.jsonl:1: field 'text' holds a int; it must be text, so name another field or convert it"),
    "deep json": ("a.jsonl", b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSONL,
        "a.jsonl:1: JSON nested too deeply to be read; flatten it"),
    "csv without the column": ("a.csv", b"id,body\n1,one\n", CSV, "a.csv: no column 'text'; it has id, body"),
    "csv with a column twice": ("a.csv", b"text,text\n1,one\n", CSV,
        "a.csv: 2 columns are named 'text'; rename all but one"),
    "csv with semicolons": ("a.csv", b"id;text\n1;one\n", CSV,
        "a.csv: no column 'text'; it has id;text; it seems to be separated by semicolons: write it with "
        "commas"),
    "empty csv": ("a.csv", b"", CSV, "a.csv: no column 'text'; it is empty"),
    "csv with a loose comma": ("a.csv", b"id,text\n1,one, two\n", CSV,
        "a.csv:2: 3 fields; the first row names 2, so put double quotes around text with commas"),
    "csv with an open quote": ("a.csv", b'id,text\n1,"one\n', CSV,
        "a.csv:2: not valid CSV: unexpected end of data; write quotes inside a text twice"),
    "parquet without the column": ("a.parquet", parquet(WORDS), {"format": "parquet", "field": "body"},
        "a.parquet: no column 'body'; it has text"),
    "parquet numbers": ("a.parquet", parquet(pa.array([1])), PARQUET,
        "a.parquet: column 'text' holds int64; it must be text, so convert it in a column of text"),
    "parquet lists": ("a.parquet", parquet(pa.array([["a", "b"]])), PARQUET, f"a.parquet: {LISTS}"),
    "no parquet": ("a.parquet", b"nonsense", PARQUET,
        "a.parquet: not a Parquet file, or damaged: Parquet magic bytes not found in footer. Either the file "
        "is corrupted or this is not a parquet file.; write it again"),
    "an array over lines": ("a.jsonl", b'[\n {"text": "x"},\n {"text": "y"}\n]', {"format": "jsonl", "field": "text"},
        "a.jsonl:1: begins a JSON array; each line must be one JSON object, so convert the file: "
        "`jq -c '.[]' FILE > FILE.jsonl`"),
    "an array in one line": ("a.jsonl", b'[{"text": "x"}, {"text": "y"}]', {"format": "jsonl", "field": "text"},
        "a.jsonl:1: begins a JSON array; each line must be one JSON object, so convert the file: "
        "`jq -c '.[]' FILE > FILE.jsonl`"),
    "an object over lines": ("a.jsonl", b'{\n  "text": "x"\n}', JSONL,
        "a.jsonl:1: begins a JSON object of several lines; each line must be one JSON object, so convert the file: "
        "`jq -c . FILE > FILE.jsonl`"),
    "two objects in a line": ("a.jsonl", b'{"text": "x"}\n{"text": "y"} {"text": "z"}\n', JSONL,
        "a.jsonl:2: has several JSON objects; each line must be one JSON object, so convert the file: "
        "`jq -c . FILE > FILE.jsonl`"),
    "lines of an array": ("a.jsonl", b'{"text": "x"},\n{"text": "y"},\n', JSONL,
        "a.jsonl:1: ends with a comma, as in a JSON array; take it away, in each line"),
    "a number of 5,000 digits": ("a.jsonl", b'{"text": "x", "n": ' + b"9" * 5000 + b"}", JSONL,
        "a.jsonl:1: JSON with a number of over 4,300 digits; put it in quotes"),
    "an image in a conversation": ("a.jsonl",
        b'{"text": [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}]}',
        {"format": "jsonl", "field": "text"},
        "a.jsonl:1: field 'text': not a conversation; it must be a list of turns with a role and a content, or with "
        "`from` and `value`, of text alone"),
    "a truth in row 41": ("a.jsonl", b'{"text": "x"}\n' * 40 + b'{"text": true}\n', JSONL,
        "a.jsonl:41: field 'text' holds a bool; it must be text, so name another field or convert it"),
    "an object in row 3": ("a.jsonl", b'{"text": "x"}\n{"text": null}\n{"text": {"a": "x"}}\n', JSONL,
        "a.jsonl:3: field 'text' holds a dict; it must be text, so name another field or convert it"),
    "a field that row 2 lacks": ("a.jsonl", b'{"text": "x"}\n{"body": "x"}\n', JSONL,
        "a.jsonl:2: no field 'text'; the line has body"),
    "a turn without words in row 2": ("a.jsonl", b'{"text": "x"}\n{"text": [3]}\n', JSONL,
        "a.jsonl:2: field 'text': not a conversation; it must be a list of turns with a role and a content, or with "
        "`from` and `value`, of text alone"),
    "a key twice": ("a.jsonl", b'{"text": "x"}\n{"text": "y", "id": 3, "text": "z"}\n', JSONL,
        "a.jsonl:2: key 'text' stands twice in one object; remove one of them"),
    "a key twice in a turn": ("a.jsonl", b'{"text": [{"role": "user", "content": "x", "role": "system"}]}', JSONL,
        "a.jsonl:1: key 'role' stands twice in one object; remove one of them"),
    "a column twice in parquet": ("a.parquet", twice(), PARQUET,
        "a.parquet: 2 columns are named 'text'; rename all but one"),
    "a subject twice": ("a.json", b'{"x": "Q: a\\nA: b", "x": "Q: c\\nA: d"}', {"format": "worked_answers"},
        "a.json: key 'x' stands twice in one object; remove one of them"),
    "latin1 in a late line": ("a.txt", b"fine\n" * 90 + b"d\xe9j\xe0\n", {"format": "lines"},
        "a.txt:91: not UTF-8 text: invalid continuation byte; save the file as UTF-8"),
    "a snippet without tabs in row 2": ("a.txt", b"1_1\t0.5\tgood\n2 bad\n", {"format": "snippets"},
        "a.txt:2: 1 fields; a snippet has an id, a score and a text, separated by tabs"),
    "snippets without tabs": ("a.txt", b"one two three\n", {"format": "snippets"},
        "a.txt:1: 1 fields; a snippet has an id, a score and a text, separated by tabs"),
    "worked answers": ("a.json", b'{"x": 1}', {"format": "worked_answers"},
        "a.json: not a JSON object of subject -> text; for other files set another reader"),
    "mediawiki": ("a.xml", b"<mediawiki><page>", {"format": "mediawiki"},
        "a.xml: not a MediaWiki dump: no element found: line 1, column 17"),
}  # fmt: skip


def refused(root: Path, model: Path, name: str, reader: dict[str, str]) -> str:
    domain = LINES | {"path": name, "reader": reader}
    params = local_params(model, domains={"tales": domain})
    make_project(root, params)
    message = said(sources.main, "tales")
    # Before anything is fetched or computed, too.
    assert said(plan.main, "--check") == message
    assert not (root / "data/sources/tales.parquet").exists()
    return message


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused(case: str, here: Path, dense_dir: Path) -> None:
    name, data, reader, message = CASES[case]
    Path(name).write_bytes(data)
    assert refused(here, dense_dir, name, reader) == f"params.yaml: domains.tales.path: {message}"


@pytest.mark.parametrize("compression", ["snappy", "gzip", "none"])
def test_damaged_pages_of_a_parquet_file_are_refused(compression: str, here: Path, dense_dir: Path) -> None:
    Path("a.parquet").write_bytes(damaged(parquet(WORDS, compression)))
    message = refused(here, dense_dir, "a.parquet", PARQUET)
    start = "params.yaml: domains.tales.path: a.parquet: not a Parquet file, or damaged: "
    assert message.startswith(start)
    assert message.endswith("; write it again")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "gone.txt"}, "params.yaml: domains.tales.path: gone.txt: no such file"),
        ({"path": "*.gone"}, "params.yaml: domains.tales.path: *.gone: no such file"),
        (
            {"path": "folder"},
            "params.yaml: domains.tales.path: folder: no such file; to read all files of the folder, write "
            "folder/*",
        ),
        (
            {"path": "blank.txt"},
            "params.yaml: domains.tales: no text in its files; check domains.tales.reader",
        ),
        (
            {"path": "blank.jsonl", "reader": JSONL},
            "params.yaml: domains.tales: no text in its files; check domains.tales.reader",
        ),
        (
            {"path": "blank.t*", "reader": TEXT},
            "params.yaml: domains.tales: no text in its files; check domains.tales.reader",
        ),
        (
            {"path": "nulls.parquet", "reader": PARQUET},
            "params.yaml: domains.tales: no text in its files; check domains.tales.reader",
        ),
    ],
)
def test_a_path_without_text_is_refused(
    changes: dict[str, Any], message: str, here: Path, dense_dir: Path
) -> None:
    Path("folder").mkdir()
    Path("blank.txt").write_bytes(b"\n \n")
    Path("blank.jsonl").write_text('{"text": ""}\n{"text": " "}\n{"text": null}\n', encoding="utf-8")
    Path("nulls.parquet").write_bytes(parquet(pa.array([None, "", "\t"])))
    make_project(here, local_params(dense_dir, domains={"tales": LINES | changes}))
    assert said(sources.main, "tales") == message
    assert said(plan.main, "--check") == message
