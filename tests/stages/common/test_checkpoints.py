"""A checkpoint of the pipeline is held against dvc.lock before it is loaded."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from secateurs.errors import InputError
from stages.common.checkpoints import load_config, load_model, load_tokenizer, saved_dtype


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (load_config, "config.json"),
        (load_tokenizer, "tokenizer.json"),
        (load_tokenizer, "tokenizer_config.json"),
        (lambda directory: load_model(directory, "float32"), "config.json"),
        (lambda directory: load_model(directory, "float32"), "model.safetensors"),
        (saved_dtype, "config.json"),
    ],
)
def test_a_flipped_bit_in_a_folder_of_dvc_is_refused(
    load: Callable[[Path], object], name: str, dense_dir: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(dense_dir, "data/model"))
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in model.iterdir()}
    listing = json.dumps([{"md5": md5[one], "relpath": one} for one in sorted(md5)]).encode()
    whole = f"{hashlib.md5(listing).hexdigest()}.dir"
    cached = Path(".dvc/cache/files/md5", whole[:2], whole[2:])
    cached.parent.mkdir(parents=True)
    cached.write_bytes(listing)
    out = {"path": "data/model", "hash": "md5", "md5": whole}
    Path("dvc.lock").write_text(json.dumps({"stages": {"model": {"outs": [out]}}}), encoding="utf-8")
    # A name of its own, because what dvc.lock says is read once for a stage that runs.
    monkeypatch.setenv("DVC_STAGE", str(here))
    load(model)
    data = bytearray((model / name).read_bytes())
    data[-20] ^= 1
    (model / name).write_bytes(data)
    with pytest.raises(
        InputError, match=rf"^data/model/{name}: its md5 is \w+, and dvc.lock says {md5[name]}"
    ):
        load(model)
