"""K-quants: what is said without llama.cpp's program, and what it writes where LLAMA_QUANTIZE names it."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM

from secateurs.choose.weight_bytes import GGUF_PRECISIONS
from secateurs.errors import InputError
from secateurs.gguf.llama_quantize import K_QUANTS, find_program, quantise
from secateurs.settings.groups import Export
from stages import export
from tests.families.test_families import half_masks, tiny
from tests.project import change, invoke, read_yaml, write_params
from tests.test_export import checkpoint, written

PROGRAM = os.environ.get("LLAMA_QUANTIZE", "")
NEEDS_PROGRAM = pytest.mark.skipif(not PROGRAM, reason="LLAMA_QUANTIZE names llama.cpp's program")


def test_params_name_what_is_written_with_the_program_and_without() -> None:
    named = Export.model_json_schema()["properties"]["precision"]["enum"]
    assert named == [*GGUF_PRECISIONS, *K_QUANTS]


def test_a_program_is_found_by_its_path() -> None:
    shell = shutil.which("sh")
    assert shell is not None
    assert find_program(shell) == shell


def test_without_the_program_the_stage_says_what_to_do_and_leaves_no_file(here: Path) -> None:
    changes = {"export.precision": "q4_k_m", "export.llama_quantize": "no/such/llama-quantize"}
    write_params(here, change(read_yaml(), changes))
    checkpoint(here / "data/pruned", "llama")
    output = invoke(export.main, status=1)
    assert "params.yaml: export.llama_quantize: no/such/llama-quantize: no such program" in output
    assert "export.precision: q4_1 and the others without a k need none" in output
    assert [file.name for file in Path("data/export").iterdir() if file.suffix == ".gguf"] == []


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    program = tmp_path / "llama-quantize"
    program.write_text("#!/bin/sh\necho loading\necho 'bad magic' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(InputError, match="did not quantise it to q4_k_m: bad magic"):
        quantise(str(program), tmp_path / "source.gguf", tmp_path / "model.gguf", "q4_k_m")


def test_a_program_that_writes_nothing_has_failed(tmp_path: Path) -> None:
    program = shutil.which("true")
    assert program is not None
    with pytest.raises(InputError, match="did not quantise it to q6_k: exit status 0"):
        quantise(program, tmp_path / "source.gguf", tmp_path / "model.gguf", "q6_k")


def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    text = tmp_path / "llama-quantize"
    text.write_text("not a program\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"export\.llama_quantize: .*llama-quantize: cannot be run"):
        quantise(str(text), tmp_path / "source.gguf", tmp_path / "model.gguf", "q6_k")


@NEEDS_PROGRAM
def test_llama_cpp_writes_the_k_quants_of_a_pruned_model(tmp_path: Path) -> None:
    masks = half_masks(tiny("llama", intermediate_size=512), ("mlp",))
    directory = checkpoint(
        tmp_path, "llama", masks, hidden_size=256, head_dim=64, intermediate_size=512, attention_bias=False
    )
    _, source = written(directory, "f16")
    said = quantise(PROGRAM, source, tmp_path / "small.gguf", "q4_k_m")
    assert said == ""
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "small.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == "Q4_K"


@NEEDS_PROGRAM
@torch.no_grad()
def test_rows_that_are_no_multiple_of_256_are_told_of(tmp_path: Path) -> None:
    _, source = written(checkpoint(tmp_path, "llama"), "f16")
    said = quantise(PROGRAM, source, tmp_path / "small.gguf", "q4_k_m")
    assert "in another format, for want of rows of 256" in said
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="small.gguf", dtype=torch.float32)
    assert torch.isfinite(again(torch.arange(2, 30)[None]).logits).all()
