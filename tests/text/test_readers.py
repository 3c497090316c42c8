import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.common.artifacts import Document
from stages.common.errors import InputError
from stages.common.params import FieldReader, PlainReader
from stages.text.readers import read, spread


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
        (b'{"body": "x"}', "no text field 'text'; the line has body"),
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
