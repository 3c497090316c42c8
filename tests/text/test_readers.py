import gzip
import io
import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from secateurs.errors import InputError
from secateurs.settings.sources import FieldReader, PlainReader
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
