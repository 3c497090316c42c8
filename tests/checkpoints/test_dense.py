import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, GPT2Config, GPT2LMHeadModel

from secateurs.checkpoints.dense import load_dense
from secateurs.checkpoints.loading import load_model
from secateurs.errors import InputError
from tests.project import path_model
from tests.text.loopback import environment, hub
from tests.tiny import make_tiny_tokenizer

SCRIPT = """
import sys
from secateurs.checkpoints.dense import load_dense
from secateurs.errors import InputError
from secateurs.settings.sources import HubModel
for name in sys.argv[1:]:
    try:
        model, _ = load_dense(HubModel(source="hub", id=name, revision="main", name="n", licence="l"))
        print(sum(weight.numel() for weight in model.parameters()), "weights")
    except InputError as error:
        print(error)
"""


def test_a_local_checkpoint_is_loaded_whole(dense_dir: Path) -> None:
    model, tokenizer = load_dense(path_model(dense_dir))
    expected = load_model(dense_dir, "float32").state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in model.state_dict().items())
    assert tokenizer.decode(tokenizer("text")["input_ids"]) == "text"


def test_the_folder_it_came_from_is_forgotten(dense_dir: Path, tmp_path: Path) -> None:
    model, _ = load_dense(path_model(dense_dir))
    model.save_pretrained(tmp_path)
    assert str(dense_dir) not in (tmp_path / "config.json").read_text()


def test_code_that_comes_with_a_model_is_not_run(dense_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dense_dir, copy)
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    }
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match=r"model.path: .*copy: config.json: model_type: own: .*is not run"):
        load_dense(path_model(copy))
    assert not (tmp_path / "ran").exists()


def test_a_path_that_is_not_there_is_refused_by_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model.path: .*none: no such file or directory"):
        load_dense(path_model(tmp_path / "none"))


def test_ids_that_nothing_of_a_model_uses_may_be_any(tmp_path: Path) -> None:
    # As in GPT-2s with a vocabulary of their own: the config still has GPT-2's beginning.
    sizes = {"vocab_size": 258, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    config = GPT2Config(**sizes, eos_token_id=1, bos_token_id=50256, pad_token_id=258)
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path)
    make_tiny_tokenizer().save_pretrained(tmp_path)
    loaded, _ = load_dense(path_model(tmp_path))
    ids = torch.tensor([[3, 5, 8]])
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_a_broken_gguf_file_is_refused_by_key(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(InputError, match=r"model.path: .*m.gguf: cannot be loaded"):
        load_dense(path_model(tmp_path / "m.gguf"))


@pytest.mark.parametrize(
    ("model_type", "settings", "message"),
    [
        ("xlstm", {"ffn_proj_factor": 9.5}, "xlstm: cannot be pruned: no entry of its config says how wide "),
        ("mamba", {}, "mamba: cannot be pruned: no layer has linear modules with channels"),
    ],
)
def test_an_architecture_that_cannot_be_pruned_is_refused_before_its_weights_are_fetched(
    model_type: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    AutoConfig.for_model(model_type, **settings).save_pretrained(tmp_path)
    # The header is read: as many tensors as there are layers at least, and none of the weights.
    save_file({str(number): torch.zeros(1) for number in range(64)}, tmp_path / "model.safetensors")
    make_tiny_tokenizer().save_pretrained(tmp_path)
    expected = rf"^model.path: {tmp_path}: config.json: model_type: {message}"
    with pytest.raises(InputError, match=expected):
        load_dense(path_model(tmp_path))


def test_a_model_is_read_from_the_hub_or_refused_by_key(dense_dir: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in dense_dir.iterdir()}
    # A process of its own: the hub's address is read when the library is imported.
    command = [sys.executable, "-c", SCRIPT, "owner/tiny", "owner/none", "owner/secret"]
    with hub({"owner/tiny": files}, gated="owner/secret") as address:
        env = environment(address, tmp_path)
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    fine, missing, gated = done.stdout.splitlines()
    assert fine == "31520 weights"
    assert missing.startswith("model.id: owner/none: cannot be loaded: owner/none is not a")
    assert gated.startswith("model.id: owner/secret: cannot be loaded: You are trying to access a gated")
