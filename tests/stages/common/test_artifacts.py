"""A final name is always whole, and what does not fit is refused by name."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from secateurs.errors import InputError
from secateurs.files.json_file import write_json
from secateurs.text.documents import Document, Sequence
from stages.common.artifacts import (
    read_documents,
    read_json,
    read_sequences,
    read_writers,
    read_written_by,
    write_documents,
    write_sequences,
)


def test_a_flipped_bit_in_a_page_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write_sequences(path, [Sequence("news", ("a",), tuple(range(1000, 1064)))], {})
    data = bytearray(path.read_bytes())
    # In the values themselves, which no other check of Parquet covers.
    place = data.index((1010).to_bytes(4, "little") + (1011).to_bytes(4, "little"))
    data[place] ^= 1
    path.write_bytes(data)
    assert pq.read_table(path)["input_ids"][0].as_py() != list(range(1000, 1064))
    with pytest.raises(InputError, match=r"s\.parquet: damaged, or not a Parquet file: .*CRC"):
        read_sequences(path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    write_documents(path, [Document("a", "text")])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"d\.parquet: damaged, or not a Parquet file: .* --single-item"):
        read_documents(path)


def test_documents_survive(tmp_path: Path) -> None:
    documents = [Document("a", "text"), Document("b", "é\n")]
    write_documents(tmp_path / "d.parquet", documents)
    assert read_documents(tmp_path / "d.parquet") == documents


def test_sequences_survive(tmp_path: Path) -> None:
    sequences = [Sequence("news", ("a", "b"), (1, 2)), Sequence("code", ("c",), (3, 4))]
    write_sequences(tmp_path / "s.parquet", sequences, {"news": 1})
    assert read_sequences(tmp_path / "s.parquet") == sequences


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_documents(tmp_path / name, [Document("a", "text")])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_who_wrote_a_text_is_in_its_file_and_in_nobody_elses(tmp_path: Path) -> None:
    facts = {"engine": "vLLM", "version": "1.2", "seed": 3, "dtype": "float32"}
    documents = [Document("a", "text")]
    write_documents(tmp_path / "d.parquet", documents, facts)
    assert (read_documents(tmp_path / "d.parquet"), read_written_by(tmp_path / "d.parquet")) == (
        documents,
        facts,
    )
    for name, none in (("e", None), ("f", {})):
        write_documents(tmp_path / name, documents, none)
        assert read_written_by(tmp_path / name) == {}
        assert pq.read_schema(tmp_path / name).metadata is None
    for name, metadata in (("s", {"written_by": {"self": facts}}), ("t", {})):
        write_sequences(tmp_path / name, [Sequence("self", ("a",), (1, 2))], metadata)
        assert read_writers(tmp_path / name) == metadata.get("written_by", {})


def test_sequences_of_different_length_are_refused(tmp_path: Path) -> None:
    write_sequences(tmp_path / "s.parquet", [Sequence("a", ("d",), (1,)), Sequence("a", ("d",), (1, 2))], {})
    with pytest.raises(InputError, match=r"s\.parquet: sequences differ in length"):
        read_sequences(tmp_path / "s.parquet")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "d.parquet")
    with pytest.raises(InputError, match=r"d\.parquet: has columns x: int64; expected document: string"):
        read_documents(tmp_path / "d.parquet")


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"m\.json: a\.1\.x: would not be a finite number"):
        write_json(tmp_path / "m.json", {"a": [0.0, {"x": float("nan")}]})
    assert not list(tmp_path.iterdir())


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"m\.json: not valid JSON"):
        read_json(tmp_path / "m.json")
