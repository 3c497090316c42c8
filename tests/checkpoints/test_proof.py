"""A checkpoint is proved by a process that has nothing but its files; what is wrong with one is found."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.checkpoints.proof import ACROSS_DEVICES, TOLERANCE, difference, prove_load
from secateurs.checkpoints.saving import save_model
from secateurs.errors import InputError
from tests.project import change_json
from tests.tiny import make_tiny_tokenizer, save_uneven

IDS = torch.arange(24).view(2, 12)
SHOWN = Path("data/pruned")


def test_a_whole_checkpoint_is_proved(dense_dir: Path) -> None:
    proof = prove_load(load_model(dense_dir, "float32"), dense_dir, IDS, SHOWN)
    assert proof.loaded == "LlamaForCausalLM"
    assert (proof.tokens, proof.difference < 1e-5) == (24, True)


@pytest.mark.usefixtures("quick_programs")
def test_half_precision_is_compared_in_half_precision(dense_dir: Path) -> None:
    assert prove_load(load_model(dense_dir, "bfloat16"), dense_dir, IDS, SHOWN).difference == 0.0


def test_another_device_may_round_otherwise() -> None:
    expected = torch.randn(2, 12, 258, generator=torch.Generator().manual_seed(0))
    found = 1.02 * expected
    assert difference(found, expected, torch.bfloat16, SHOWN, ACROSS_DEVICES) == pytest.approx(0.02, rel=1e-2)
    with pytest.raises(InputError, match=r"logits differ by 0\.02 of their spread"):
        difference(found, expected, torch.bfloat16, SHOWN, TOLERANCE)


@pytest.mark.usefixtures("quick_programs")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_weight_that_was_not_saved_as_it_is_in_memory_is_found(
    dense_dir: Path, tmp_path: Path, dtype: str
) -> None:
    model = load_model(dense_dir, dtype)
    copy = shutil.copytree(dense_dir, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= 1.05
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="data/pruned: the loaded checkpoint computes something else"):
        prove_load(model, copy, IDS, SHOWN)


@pytest.mark.usefixtures("quick_programs")
def test_a_config_that_does_not_fit_the_weights_is_found(dense_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dense_dir, tmp_path / "copy")
    change_json(copy / "config.json", intermediate_size=24)
    with pytest.raises(
        InputError, match="data/pruned: the checkpoint does not load in a fresh process: RuntimeError"
    ):
        prove_load(load_model(dense_dir, "float32"), copy, IDS, SHOWN)


@pytest.mark.usefixtures("quick_programs")
def test_a_modelling_file_that_needs_this_project_is_not_proved(tmp_path: Path) -> None:
    model = save_uneven(tmp_path)
    assert prove_load(model, tmp_path, IDS, SHOWN).loaded == "PrunedLlamaForCausalLM"
    file = tmp_path / "modeling_pruned.py"
    file.write_text(f"import secateurs.errors\n{file.read_text()}")
    with pytest.raises(
        InputError, match=r"data/pruned: the checkpoint does not load in a fresh process: .*secateurs"
    ):
        prove_load(model, tmp_path, IDS, SHOWN)


@pytest.mark.usefixtures("quick_programs")
@pytest.mark.parametrize(
    ("name", "part"), [("tokenizer.json", "tokenizer"), ("generation_config.json", "generation config")]
)
def test_files_beside_the_model_are_proved_too(dense_dir: Path, tmp_path: Path, name: str, part: str) -> None:
    copy = shutil.copytree(dense_dir, tmp_path / "copy")
    (copy / name).write_text("garbage")
    with pytest.raises(InputError, match=f"data/pruned: the {part} does not load in a fresh process: "):
        prove_load(load_model(dense_dir, "float32"), copy, IDS, SHOWN)


@pytest.mark.usefixtures("quick_programs")
def test_a_tokenizer_that_was_not_saved_as_it_is_in_memory_is_found(dense_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dense_dir, tmp_path / "copy")
    saved = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = saved["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (copy / "tokenizer.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match="data/pruned: the loaded tokenizer gives other ids"):
        prove_load(load_model(dense_dir, "float32"), copy, IDS, SHOWN, load_tokenizer(dense_dir))


@pytest.mark.usefixtures("quick_programs")
def test_a_config_that_ties_another_head_is_found(dense_dir: Path, tmp_path: Path) -> None:
    """transformers 5 loads what 4 would tie: reading both through it, nothing would be seen."""
    model = load_model(dense_dir, "float32")
    model.lm_head.weight = torch.nn.Parameter(torch.randn(258, 32), requires_grad=False)
    model.config.tie_word_embeddings = False
    save_model(model, tmp_path)
    make_tiny_tokenizer().save_pretrained(tmp_path)
    assert prove_load(model, tmp_path, IDS, SHOWN).tokens == 24
    change_json(tmp_path / "config.json", tie_word_embeddings=True)
    assert torch.equal(load_model(tmp_path, "float32").lm_head.weight, model.lm_head.weight)
    with pytest.raises(InputError, match=r"config\.json ties the head .*; the file has another head"):
        prove_load(model, tmp_path, IDS, SHOWN)


@pytest.mark.usefixtures("quick_programs")
def test_a_tensor_that_is_not_the_one_in_memory_is_found_by_name(dense_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dense_dir, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"] += 1e-6
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"model\.norm\.weight: the file holds something else"):
        prove_load(load_model(dense_dir, "float32"), copy, IDS, SHOWN)
