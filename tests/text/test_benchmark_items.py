import gzip
import json
from pathlib import Path

import pytest

from secateurs.errors import InputError
from secateurs.settings.sources import PathBenchmark, StockBenchmark
from secateurs.text.benchmark_items import adapted_items, parse_items, read_items
from tests.bad_inputs.local import ITEM

LINE = json.dumps(ITEM).encode()


def local(path: Path) -> PathBenchmark:
    return PathBenchmark(source="path", path=str(path))


def test_a_file_is_given_back_byte_for_byte(tmp_path: Path) -> None:
    data = LINE + b"\n\n" + LINE
    (tmp_path / "t.jsonl").write_bytes(data)
    assert read_items("openbookqa", local(tmp_path / "t.jsonl")) == data


def test_a_gzip_file_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(LINE + b"\n" + LINE))
    assert read_items("openbookqa", local(tmp_path / "t.jsonl.gz")) == LINE + b"\n" + LINE


def test_a_mark_at_the_start_and_blank_lines_are_passed_over() -> None:
    items = adapted_items("openbookqa", "t", b"\xef\xbb\xbf" + LINE + b"\r\n  \r\n" + LINE + b"\n")
    assert [item["answerKey"] for item in items] == ["A", "A"]
    assert [where for where, _ in parse_items("t", LINE + b"\n\n" + LINE)] == ["t:1", "t:3"]


def test_an_unknown_stock_task_is_refused_by_key() -> None:
    with pytest.raises(InputError, match=r"benchmarks.no_such_task: not a task or group"):
        read_items("no_such_task", StockBenchmark(source="stock"))
