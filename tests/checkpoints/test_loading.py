import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from secateurs.checkpoints.dense import load_dense
from secateurs.checkpoints.loading import load_model, load_shapes, load_tokenizer
from secateurs.checkpoints.saving import save_model
from secateurs.errors import InputError
from secateurs.kinds.sites import cut
from tests.project import change_json, path_model
from tests.tiny import make_tiny_model, save_uneven


def changed(dense_dir: Path, tmp_path: Path, edit: dict[str, torch.Tensor | None]) -> Path:
    """A copy of the checkpoint with tensors replaced, or removed where None."""
    copy = tmp_path / "copy"
    shutil.copytree(dense_dir, copy)
    weights = {**load_file(copy / "model.safetensors"), **edit}
    kept = {name: tensor for name, tensor in weights.items() if tensor is not None}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def test_a_model_is_loaded_frozen_for_evaluation(dense_dir: Path) -> None:
    model = load_model(dense_dir, "bfloat16")
    assert not model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert not any(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("widths", [16, 12])
def test_shapes_are_those_of_the_weights_and_need_no_file_of_them(
    tmp_path: Path, tied: bool, widths: int
) -> None:
    """Of a stock class, and of one whose layers differ in width."""
    model = make_tiny_model(tie_word_embeddings=tied)
    cut(model, {"1/mlp": torch.arange(48) < widths})
    save_model(model, tmp_path)
    expected = {name: weight.shape for name, weight in load_model(tmp_path, "float32").named_parameters()}
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    shapes = load_shapes(tmp_path)
    assert {name: weight.shape for name, weight in shapes.named_parameters()} == expected
    assert all(weight.is_meta and not weight.requires_grad for weight in shapes.parameters())


def test_weights_that_are_not_finite_are_refused_by_name(dense_dir: Path, tmp_path: Path) -> None:
    copy = changed(dense_dir, tmp_path, {"model.norm.weight": torch.full((32,), float("nan"))})
    with pytest.raises(InputError, match=r"copy: weights are not finite: model.norm.weight"):
        load_model(copy, "float32")


def test_missing_weights_are_refused_by_name(dense_dir: Path, tmp_path: Path) -> None:
    copy = changed(dense_dir, tmp_path, {"model.norm.weight": None})
    with pytest.raises(InputError, match=r"copy: weights are missing: model.norm.weight"):
        load_model(copy, "float32")


@pytest.mark.parametrize("load", [lambda path: load_model(path, "float32"), load_tokenizer])
def test_a_folder_without_a_checkpoint_is_refused_by_name(load: object, tmp_path: Path) -> None:
    assert callable(load)
    with pytest.raises(InputError, match=f"{tmp_path}: no checkpoint there; "):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("model.layers.0.self_attn.q_proj.bias", 32), ("model.layers.3.input_layernorm.weight", 32)],
)
def test_weights_that_the_config_does_not_tell_of_are_refused_by_name(
    dense_dir: Path, tmp_path: Path, name: str, shape: int
) -> None:
    """A bias, or a layer more: without it, another model would be pruned."""
    copy = changed(dense_dir, tmp_path, {name: torch.ones(shape)})
    with pytest.raises(
        InputError, match=rf"copy: its config does not tell of weights in its files: {name}; without"
    ):
        load_model(copy, "float32")
    with pytest.raises(InputError, match=rf"model.path: .*copy: its config does not tell of .*{name}"):
        load_dense(path_model(copy))


def with_other_head(dense_dir: Path, tmp_path: Path) -> Path:
    """A checkpoint whose config ties its head, and whose file has another one."""
    return changed(dense_dir, tmp_path, {"lm_head.weight": torch.randn(258, 32)})


def test_a_head_of_its_own_is_not_called_tied(dense_dir: Path, tmp_path: Path) -> None:
    copy = with_other_head(dense_dir, tmp_path)
    assert json.loads((copy / "config.json").read_text())["tie_word_embeddings"] is True
    head = load_file(copy / "model.safetensors")["lm_head.weight"]
    for model in (load_model(copy, "float32"), load_dense(path_model(copy))[0]):
        assert model.config.tie_word_embeddings is False
        save_model(model, tmp_path / "saved")
        assert json.loads((tmp_path / "saved/config.json").read_text())["tie_word_embeddings"] is False
        assert torch.equal(load_file(tmp_path / "saved/model.safetensors")["lm_head.weight"], head)


def test_a_tied_head_is_called_tied(dense_dir: Path) -> None:
    assert load_model(dense_dir, "float32").config.tie_word_embeddings is True


PLANTED = """
from pathlib import Path
Path({marker!r}).touch()
"""


def test_the_projects_own_modelling_file_is_run(tmp_path: Path) -> None:
    save_uneven(tmp_path)
    model = load_model(tmp_path, "float32")
    assert type(model).__name__ == "PrunedLlamaForCausalLM"
    assert not hasattr(transformers, type(model).__name__)


@pytest.mark.parametrize("place", ["end", "start", "version", "class"])
def test_a_modelling_file_with_anything_else_in_it_is_not_run(tmp_path: Path, place: str) -> None:
    directory, marker = tmp_path / "pruned", tmp_path / "planted"
    save_uneven(directory)
    file, planted = directory / "modeling_pruned.py", PLANTED.replace("{marker!r}", repr(str(marker)))
    text = file.read_text()
    version = transformers.__version__
    changed_text = {
        "end": text + planted,
        "start": planted + text,
        "version": text.replace(f"transformers {version};", 'transformers {open("x")};'),
        "class": text.replace("import LlamaForCausalLM, LlamaModel", "import LlamaForCausalLM, EvilModel"),
    }
    assert changed_text[place] != text
    file.write_text(changed_text[place])
    with pytest.raises(InputError, match=r"modeling_pruned.py: not the modelling file that this version"):
        load_model(directory, "float32")
    assert not marker.exists()


def test_other_code_of_a_checkpoint_is_not_run(dense_dir: Path, tmp_path: Path) -> None:
    """Its architecture is one that transformers knows, so it loads without."""
    copy, marker = shutil.copytree(dense_dir, tmp_path / "copy"), tmp_path / "planted"
    (copy / "modeling_mine.py").write_text(PLANTED.replace("{marker!r}", repr(str(marker))))
    for name, kinds in (
        ("config.json", ("AutoConfig", "AutoModelForCausalLM")),
        ("tokenizer_config.json", ("AutoTokenizer",)),
    ):
        change_json(copy / name, auto_map=dict.fromkeys(kinds, "modeling_mine.Mine"))
    assert type(load_model(copy, "float32")).__name__ == "LlamaForCausalLM"
    load_tokenizer(copy)
    assert not marker.exists()
