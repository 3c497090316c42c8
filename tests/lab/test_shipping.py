"""Rows that a shipper compares, from a file of the documented form to tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from lab.shipping import read_rows, short_table, whole_table
from lab.shipping_picture import draw_kept
from secateurs.errors import InputError

GPU = {"runtime": "transformers", "machine": "H200"}
CPU = {"runtime": "llama.cpp", "machine": "2 cores"}
DENSE = {
    "name": "dense",
    "parameters": 1_543_714_304,
    "bytes": 3_087_467_144,
    "speeds": [GPU | {"prefill": 51234.5, "decode": 61.24}, CPU | {"prefill": 99.96, "decode": 7.0}],
    "tasks": {"zero-shot": 0.5189, "GSM8K": 0.4632},
    "held_out": 1.0,
    "worst_kept": 1.0,
    "mean_kept": 1,
}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps({"model": "Qwen", "rows": rows}), encoding="utf-8")
    return path


def test_all_that_rows_have_is_in_the_whole_table_and_what_they_lack_a_dash(tmp_path: Path) -> None:
    small = {"name": "4 bits", "speeds": [CPU | {"decode": 20.0}], "tasks": {"GSM8K": 0.25}}
    assert whole_table(read_rows(written(tmp_path, DENSE, small))).splitlines() == [
        "| Qwen | parameters | GB | worst kept | mean kept | perplexity "
        "| prefill / decode, transformers on H200 | prefill / decode, llama.cpp on 2 cores "
        "| zero-shot | GSM8K |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| dense | 1,544 M | 3.09 | 1.00 | 1.00 | 1.000 | 51,234 / 61.2 | 100.0 / 7.0 | 0.519 | 0.463 |",
        "| 4 bits | - | - | - | - | - | - | - / 20.0 | - | 0.250 |",
    ]


def test_the_short_table_has_the_speed_of_the_first_runtime_and_says_which_it_is(tmp_path: Path) -> None:
    assert short_table(read_rows(written(tmp_path, DENSE))).splitlines() == [
        "| Qwen | GB | worst kept | mean kept | perplexity | prefill | decode |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| dense | 3.09 | 1.00 | 1.00 | 1.000 | 51,234 | 61.2 |",
        "",
        "Tokens a second: transformers on H200.",
    ]


def test_the_short_table_leaves_out_rows_of_the_whole_one_alone(tmp_path: Path) -> None:
    found = read_rows(written(tmp_path, DENSE, {"name": "more", "whole_only": True}))
    assert ["more" in table(found) for table in (short_table, whole_table)] == [False, True]


def test_a_column_that_no_row_has_is_left_out(tmp_path: Path) -> None:
    table = short_table(read_rows(written(tmp_path, {"name": "dense", "bytes": 10**9})))
    assert table.splitlines()[0] == "| Qwen | GB |"


def test_the_picture_names_every_row_that_has_shares_once_and_has_a_panel_of_speeds(tmp_path: Path) -> None:
    small = {"name": "**small**", "bytes": 10**9, "worst_kept": 0.5, "mean_kept": 0.75}
    speed = {"speeds": [GPU | {"prefill": 90_000.0}]}
    unknown = {"name": "unknown", "bytes": 10**9}
    alone = draw_kept(read_rows(written(tmp_path, DENSE, small, unknown))).svg
    names = {"dense": 1, "small": 1, "unknown": 0, "GB of weights": 1}
    assert {name: alone.count(f">{name}<") for name in names} == names
    assert "prefill" not in alone
    assert (
        "prefill, thousand tokens a second, transformers on H200"
        in draw_kept(read_rows(written(tmp_path, DENSE, small | speed))).svg
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "a", "gigabytes": 3}, "rows.0.gigabytes: unknown key"),
        ({"bytes": 3}, "rows.0.name: missing"),
        ({"name": "a", "bytes": 3.09}, "rows.0.bytes: 3.09: Input should be a valid integer"),
        (
            {"name": "a", "tasks": {"GSM8K": 46.3}},
            "rows.0.tasks.GSM8K: 46.3: Input should be less than or equal to 1",
        ),
        ({"name": "a", "speeds": [{"runtime": "vLLM"}]}, "rows.0.speeds.0.machine: missing"),
    ],
)
def test_a_row_of_another_form_is_refused_by_file_and_key(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, row)
    with pytest.raises(InputError) as refused:
        read_rows(path)
    assert str(refused.value) == f"{path}: {message}"
