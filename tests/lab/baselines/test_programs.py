"""The baselines' own programs on a tiny model, run by the interpreter that BASELINES_PYTHON names."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lab.baselines.catalogue import BASELINES
from lab.baselines.loading import STOCK, try_loading
from lab.baselines.programs.handover import CHECKPOINT, LOGITS, REPORT, Request
from lab.baselines.running import run
from secateurs.checkpoints.loading import load_model
from secateurs.families.decoder import decoder_parameters
from tests.project import ROOT
from tests.tiny import make_tiny_model

INSTALLED = [name for name, baseline in BASELINES.items() if baseline.installed]

pytestmark = pytest.mark.baselines


@pytest.mark.parametrize("share", [0.2, 0.4])
@pytest.mark.parametrize("name", INSTALLED)
def test_a_program_meets_the_share_and_leaves_a_stock_checkpoint(
    name: str, share: float, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 144, "intermediate_size": 384, "num_attention_heads": 9, "num_key_value_heads": 3}
    dense = make_tiny_model(**sizes)
    dense.save_pretrained(tmp_path / "dense")
    generator = torch.Generator().manual_seed(0)
    text = {domain: torch.randint(2, 258, (5, 32), generator=generator) for domain in ("code", "news")}
    save_file(text, tmp_path / "text.safetensors")
    save_file({"input_ids": text["code"][:2].contiguous()}, tmp_path / "check.safetensors")
    Request(
        baseline=name,
        model=str(tmp_path / "dense"),
        share=share,
        text=str(tmp_path / "text.safetensors"),
        check=str(tmp_path / "check.safetensors"),
        out=str(tmp_path),
        root=str(ROOT),
        device="cpu",
        dtype="float32",
    ).write(tmp_path / "request.json")
    command = [os.environ["BASELINES_PYTHON"], "-m", BASELINES[name].program, str(tmp_path / "request.json")]
    run(command, tmp_path, {"PYTHONPATH": str(ROOT)})
    report = json.loads((tmp_path / REPORT).read_text())
    assert report["version"].split()[0].lower().startswith(name.split("-")[0])
    check, logits = tmp_path / "check.safetensors", tmp_path / LOGITS
    assert try_loading(tmp_path / CHECKPOINT, check, logits, "float32") == STOCK
    removed = 1 - decoder_parameters(load_model(tmp_path / CHECKPOINT, "float32")) / decoder_parameters(dense)
    assert removed == pytest.approx(share, abs=0.03)
