from pathlib import Path

import pytest

from stages.common.errors import InputError
from stages.common.params import PathBenchmark, StockBenchmark
from stages.text.benchmark_items import parse_items, read_items


def local(path: Path) -> PathBenchmark:
    return PathBenchmark(source="path", path=str(path))


def test_a_file_is_given_back_byte_for_byte(tmp_path: Path) -> None:
    data = b'{"question":  "a"}\n\n{"question": "b"}'
    (tmp_path / "t.jsonl").write_bytes(data)
    assert read_items("t", local(tmp_path / "t.jsonl")) == data


@pytest.mark.parametrize(
    ("line", "message"), [(b"{", "not valid JSON"), (b"[]", "a list; an item is a JSON object")]
)
def test_a_bad_item_is_refused_by_line(line: bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"^t:2: {message}"):
        parse_items("t", b"{}\n" + line)


def test_a_missing_file_is_refused_by_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"params.yaml: benchmarks.t.path: .*: cannot be read: No such file"):
        read_items("t", local(tmp_path / "t.jsonl"))


def test_a_file_without_items_is_refused_by_key(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b"\n")
    with pytest.raises(InputError, match=r"benchmarks.t: .* has no items"):
        read_items("t", local(tmp_path / "t.jsonl"))


@pytest.mark.slow
def test_an_unknown_stock_task_is_refused_by_key() -> None:
    with pytest.raises(InputError, match=r"benchmarks.no_such_task: lm-eval cannot load it"):
        read_items("no_such_task", StockBenchmark(source="stock"))
