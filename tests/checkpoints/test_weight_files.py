"""What may lie beside the weights of a folder; what may not is in tests/bad_inputs/test_models.py."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from secateurs.checkpoints.dense import load_dense
from tests.bad_inputs.test_models import POINTER, WEIGHTS, parts
from tests.project import change_json, path_model
from tests.tiny import make_tiny_model

READ = "model: model.safetensors is read; pytorch_model.bin beside it"


def weights() -> dict[str, torch.Tensor]:
    return make_tiny_model().state_dict()


class Planted:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.mkdir, (Path("planted"),)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (weights(), "holds the same weights"),
        # The same, rounded.
        ({name: tensor.bfloat16() for name, tensor in weights().items()}, "holds the same weights"),
        # Buffers that older versions of transformers saved too.
        (weights() | {"model.layers.0.rotary_emb.inv_freq": torch.ones(4)}, "holds the same weights"),
        ({"tok_embeddings.weight": torch.ones(2)}, "names its weights otherwise and was not compared"),
        ([torch.ones(2)], "cannot be compared with it: pytorch_model.bin holds a list"),
    ],
)
def test_pickled_weights_beside_are_compared(
    beside: object, said: str, dense_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(dense_dir, tmp_path / "model"))
    torch.save(beside, folder / "pytorch_model.bin")
    model, _ = load_dense(path_model(folder))
    assert capsys.readouterr().err == f"{READ} {said}\n"
    kept = load_file(folder / WEIGHTS)
    assert all(torch.equal(tensor, kept.get(name, tensor)) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pickle.dumps(Planted(), protocol=2), "cannot be compared with it: "),
        (b"no pickle" * 20, "cannot be compared with it: "),
        (b"", "cannot be compared with it: "),
        (POINTER, "cannot be compared with it: "),
    ],
)
def test_a_pickle_that_cannot_be_compared_is_named_and_not_run(
    data: bytes, said: str, dense_dir: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(dense_dir, here / "model"))
    (folder / "pytorch_model.bin").write_bytes(data)
    load_dense(path_model(folder))
    assert capsys.readouterr().err.startswith(f"{READ} {said}")
    assert not Path("planted").exists()


def test_pickled_weights_beside_parts_are_compared(
    dense_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(dense_dir, tmp_path / "model"))
    parts(lambda folder: torch.save(weights(), folder / "pytorch_model.bin"))(folder)
    load_dense(path_model(folder))
    assert (
        "model: model.safetensors.index.json is read; pytorch_model.bin beside it holds"
        in capsys.readouterr().err
    )


def test_weights_under_the_name_that_the_config_gives_are_read(dense_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dense_dir, tmp_path / "model"))
    (folder / WEIGHTS).rename(folder / "cut.safetensors")
    change_json(folder / "config.json", transformers_weights="cut.safetensors")
    model, _ = load_dense(path_model(folder))
    model.save_pretrained(tmp_path / "saved")
    assert "cut.safetensors" not in (tmp_path / "saved/config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        *("tf_model.h5", "flax_model.msgpack", "rust_model.ot", "model.onnx", "consolidated.00.pth"),
        *("consolidated.safetensors", "training_args.bin", "model.gguf"),
    ],
)
def test_what_other_programs_read_is_passed_over(
    name: str, dense_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(dense_dir, tmp_path / "model"))
    (folder / name).write_bytes(b"anything" if name == "training_args.bin" else POINTER)
    load_dense(path_model(folder))
    assert capsys.readouterr().err == ""
