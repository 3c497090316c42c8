import gzip
import io
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from secateurs.errors import InputError
from secateurs.settings.sources import FieldReader, PlainReader
from secateurs.text import readers, tables
from secateurs.text.documents import Document
from secateurs.text.readers import read, spread


def plain(form: str, files: dict[str, bytes], limit: int = 100) -> list[Document]:
    return read(files, PlainReader.model_validate({"format": form}), limit)


def field(form: str, files: dict[str, bytes], name: str = "text") -> list[Document]:
    return read(files, FieldReader.model_validate({"format": form, "field": name}), 100)


def parquet(columns: dict[str, list[object]]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def test_a_text_file_is_a_document() -> None:
    assert plain("text", {"b": b"two\n", "a": b"one"}) == [Document("a", "one"), Document("b", "two")]


def test_a_line_that_is_not_blank_is_a_document() -> None:
    found = plain("lines", {"a": "first\r\n\n  \nsecond\u2028still\n".encode()})
    assert found == [Document("a:1", "first"), Document("a:4", "second\u2028still")]


TURNS = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]


def test_a_field_of_messages_is_a_conversation() -> None:
    line = json.dumps({"messages": TURNS}).encode() + b"\n"
    (found,) = field("jsonl", {"a": line}, "messages")
    assert found == Document("a:1", json.dumps(TURNS), chat=True)


def test_a_column_of_messages_is_a_conversation() -> None:
    (found,) = field("parquet", {"a": parquet({"messages": [TURNS, []]})}, "messages")
    assert (found.chat, json.loads(found.text)) == (True, TURNS)


def test_a_list_that_is_no_conversation_is_refused_by_line() -> None:
    with pytest.raises(InputError, match="a:1: field 'm': not a conversation; it must be a list of turns"):
        field("jsonl", {"a": b'{"m": ["x"]}\n'}, "m")


def test_snippets_that_share_an_id_are_joined() -> None:
    found = plain("snippets", {"a": b"1_1\t0.5\tOne &amp;\n1_2\t1\ttwo.\n2\t-1\tAlone.\n"})
    assert found == [Document("a:1", "One & two."), Document("a:2", "Alone.")]


def test_a_snippet_without_three_fields_is_refused_by_line() -> None:
    with pytest.raises(InputError, match=r"^a:2: 2 fields"):
        plain("snippets", {"a": b"1\t0.5\ttext\n2\ttext\n"})


def test_a_field_of_json_lines_is_a_document() -> None:
    assert field("jsonl", {"a": b'{"text": "one"}\n\n{"text": "two"}\n'}) == [
        Document("a:1", "one"),
        Document("a:3", "two"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not valid JSON"),
        (b'{"body": "x"}', "no field 'text'; the line has body"),
        (b"[1]", "a list"),
    ],
)
def test_a_bad_json_line_is_refused_by_line(line: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"^a:2: .*{message}"):
        field("jsonl", {"a": b'{"text": "one"}\n' + line})


def test_a_parquet_column_is_read_without_its_empty_values() -> None:
    assert field("parquet", {"a": parquet({"text": ["one", None, "two"]})}) == [
        Document("a:0", "one"),
        Document("a:2", "two"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (parquet({"body": ["x"]}), "no column 'text'; it has body"),
        (parquet({"text": [1]}), "holds int64; it must be text"),
        (b"nonsense", "not a Parquet file"),
    ],
)
def test_a_bad_parquet_file_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"^a: .*{message}"):
        field("parquet", {"a": data})


def test_each_worked_answer_is_a_document() -> None:
    prompt = "Instruction.\n\nQ: One?\n(A) x\nA: Step. The answer is (A).\n\nQ: Two?\nA: Yes."
    data = json.dumps({"logic": prompt}).encode()
    assert plain("worked_answers", {"a": data}) == [
        Document("a:logic:0", "Q: One?\n(A) x\nA: Step. The answer is (A)."),
        Document("a:logic:1", "Q: Two?\nA: Yes."),
    ]


def test_worked_answers_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(InputError, match="a: not a JSON object of subject"):
        plain("worked_answers", {"a": b'{"x": 1}'})


def test_bytes_that_are_not_utf8_are_refused_by_line() -> None:
    with pytest.raises(InputError, match=r"^a:2: not UTF-8"):
        plain("lines", {"a": b"fine\n\xff\xfe\n"})


def test_repeated_text_is_read_once() -> None:
    assert plain("lines", {"a": b"same\nsame\nother\n"}) == [
        Document("a:1", "same"),
        Document("a:3", "other"),
    ]


def test_a_limit_spreads_over_all_documents() -> None:
    documents = [Document(str(index), "x") for index in range(10)]
    assert [item.document for item in spread(documents, 4)] == ["0", "2", "5", "7"]
    assert spread(documents, 10) == documents


def test_a_gzip_file_is_read_by_what_is_inside() -> None:
    data = gzip.compress(b'{"text": "one"}\n{"text": "two"}\n')
    assert field("jsonl", {"a.jsonl.gz": data}) == [
        Document("a.jsonl.gz:1", "one"),
        Document("a.jsonl.gz:2", "two"),
    ]


def test_json_null_is_no_text() -> None:
    assert field("jsonl", {"a": b'{"text": null}\n{"text": "two"}\n'}) == [Document("a:2", "two")]


@pytest.mark.parametrize("line", [b'{"text": "cut \\ud83d"}', b'{"text": "cut \\ude00"}'])
def test_half_an_emoji_becomes_the_replacement_character(line: bytes) -> None:
    (found,) = field("jsonl", {"a": line})
    assert found.text == "cut \ufffd"
    assert found.text.encode()


def test_a_whole_emoji_written_as_two_halves_stays() -> None:
    assert field("jsonl", {"a": b'{"text": "\\ud83d\\ude00"}'}) == [Document("a:1", "\U0001f600")]


def test_a_csv_column_is_read_with_commas_quotes_and_line_ends_inside() -> None:
    data = b'id,text\r\n1,"one, ""two""\nthree"\r\n\r\n2,four\r\n'
    assert field("csv", {"a": data}) == [Document("a:1", 'one, "two"\nthree'), Document("a:2", "four")]


def test_a_csv_field_may_be_long() -> None:
    (found,) = field("csv", {"a": b"text\n" + b"x" * 200_000})
    assert len(found.text) == 200_000


@pytest.mark.parametrize(
    "kind", [pa.dictionary(pa.int32(), pa.string()), pa.large_string(), pa.string_view()], ids=str
)
def test_every_kind_of_text_in_parquet_is_read(kind: pa.DataType) -> None:
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array(["one", None, "one", "two"]).cast(kind)}), stream)
    assert field("parquet", {"a": stream.getvalue()}) == [Document("a:0", "one"), Document("a:3", "two")]


@pytest.mark.parametrize(
    "prompt", ["\n" * 300_000 + "Q", "Q: a\nA: b" + " We refer to Wikipedia articles on" * 20_000]
)
def test_worked_answers_are_read_in_time_that_grows_with_their_length(prompt: str) -> None:
    began = time.monotonic()
    read({"a.json": json.dumps({"subject": prompt}).encode()}, PlainReader(format="worked_answers"), 10)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("kept", [0, 40, 10**6])
@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_documents_are_spread_alike_however_many_are_kept_at_first(
    kept: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_KEPT", kept)
    files = {"b": b"one\ntwo\none\nthree\n", "a": b"four\nfive\ntwo\nsix\nseven\n"}
    every = ["four", "five", "two", "six", "seven", "one", "three"]
    expected = [every[index * 7 // limit] for index in range(limit)] if limit < 7 else every
    assert [item.text for item in plain("lines", files, limit)] == expected


def test_more_text_than_a_memory_should_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MOST_TEXT", 10)
    message = r"^its documents have more than 10 characters together, .*; lower `documents: 2`$"
    for kept in (0, 100):
        monkeypatch.setattr(readers, "_KEPT", kept)
        with pytest.raises(InputError, match=message):
            plain("lines", {"a": b"seven77\nseven78\nseven79\n"}, 2)


def peak(work: Callable[[], object]) -> int:
    """The most bytes of Python's own that were held at once, over those before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_lines_of_a_large_file_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_KEPT", 2**16)
    (tmp_path / "a").write_text("".join(f"{n} {'x' * 1000}\n" for n in range(32_000)), encoding="utf-8")
    found: list[Document] = []
    reader = PlainReader(format="lines")
    held = peak(lambda: found.extend(read({"a": tmp_path / "a"}, reader, 20)))
    assert [item.document for item in found] == [f"a:{n * 1600 + 1}" for n in range(20)]
    # Of 32 MB: a piece of the file, and 16 bytes and their place in a set for each line.
    assert held < 12e6


def arrows_peak(work: Callable[[], object]) -> int:
    """The most bytes of Arrow's that were held at once."""
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        work()
        return pool.max_memory()
    finally:
        pa.set_memory_pool(usual)


def test_a_text_that_many_rows_have_is_held_once(tmp_path: Path) -> None:
    rows, text = 20_000, "x" * 100_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [text])
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet", store_schema=False)
    # The file says that it has 2 GB.
    assert (tmp_path / "a.parquet").stat().st_size < 20_000
    reader = FieldReader(format="parquet", field="text")
    found: list[Document] = []

    def work() -> None:
        found.extend(read({"a": tmp_path / "a.parquet"}, reader, 5))

    assert arrows_peak(lambda: peak(work)) < 20e6
    assert found == [Document("a:0", text)]


def test_rows_of_a_large_file_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_KEPT", 2**16)
    texts = [f"{n} {'x' * 1000}" for n in range(32_000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=4000)
    reader = FieldReader(format="parquet", field="text")
    found: list[Document] = []

    def work() -> None:
        found.extend(read({"a": tmp_path / "a.parquet"}, reader, 20))

    # Of 32 MB: a row group at a time.
    assert arrows_peak(work) < 24e6
    assert [item.document for item in found] == [f"a:{n * 1600}" for n in range(20)]


def test_a_row_group_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_GROUP", 50)
    message = r"^a: column 'text' has \d+ bytes in one row group, of which 50 are read at most; write"
    with pytest.raises(InputError, match=message):
        field("parquet", {"a": parquet({"text": ["x" * 100]})})
