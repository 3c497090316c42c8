"""What the plan knows of a model that is not here yet: its config alone, wherever that is."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from transformers import AutoConfig

from secateurs.errors import InputError
from stages import plan
from stages.planning.architecture import configured_architecture, read_shapes
from tests.project import PARAMS, ROOT, change_json, invoke, path_model, read_yaml
from tests.test_export import checkpoint, written
from tests.text.loopback import environment, hub
from tests.tiny import make_tiny_model


@pytest.fixture
def project(here: Path) -> Path:
    # The tiny model's channels, in steps of the default width, cannot give as much as the default asks for.
    params = PARAMS.read_text(encoding="utf-8").replace("sparsity: 0.2", "sparsity: 0.1")
    (here / "params.yaml").write_text(params, encoding="utf-8")
    return here


def test_a_kernel_that_another_package_would_fetch_is_not_asked_for(dense_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dense_dir, tmp_path / "model")
    change_json(folder / "config.json", attn_implementation="somebody/some-kernel")
    found = configured_architecture(path_model(folder))
    assert found.model.config._attn_implementation in {"sdpa", "eager"}


def made_of(project: Path, dense_dir: Path, **changes: Any) -> None:
    """data/model as its stage left it, of the model of params.yaml but for `changes`."""
    shutil.copytree(dense_dir, project / "data/model")
    model = read_yaml()["model"] | changes
    lock = {"stages": {"model": {"params": {"params.yaml": {"model": model}}}}}
    (project / "dvc.lock").write_text(json.dumps(lock), encoding="utf-8")


def test_shapes_are_read_without_weights(dense_dir: Path) -> None:
    model = read_shapes(dense_dir)
    assert model.num_parameters() == make_tiny_model().num_parameters()
    assert all(weight.device.type == "meta" for weight in model.parameters())


def test_a_folder_needs_only_its_config(project: Path, dense_dir: Path) -> None:
    (project / "mine").mkdir()
    shutil.copy(dense_dir / "config.json", project / "mine")
    found = configured_architecture(path_model(project / "mine"))
    assert found is not None
    assert found.model.num_parameters() == make_tiny_model().num_parameters()
    assert found.download == 0


def test_a_gguf_file_needs_only_its_header(project: Path) -> None:
    expected = read_shapes(checkpoint(project, "qwen2")).num_parameters()
    _, path = written(project)
    found = configured_architecture(path_model(path))
    assert found is not None
    assert found.model.num_parameters() == expected
    assert str(path) in found.where


def test_a_path_that_is_not_there_is_refused_by_key(project: Path) -> None:
    with pytest.raises(InputError, match=r"^params.yaml: model.path: .*none: no such file or directory"):
        configured_architecture(path_model(project / "none"))


def test_an_architecture_that_cannot_be_pruned_is_refused_before_it_is_fetched(project: Path) -> None:
    AutoConfig.for_model("mamba").save_pretrained(project / "mamba")
    with pytest.raises(InputError, match=r"^params.yaml: model.path: .*mamba: cannot be pruned"):
        configured_architecture(path_model(project / "mamba"))


SCRIPT = """
import sys
from secateurs.settings.sources import HubModel
from stages.planning.architecture import configured_architecture
model = HubModel(source="hub", id=sys.argv[1], revision="main", name="n", licence="l")
found = configured_architecture(model)
print(found.model.num_parameters(), found.download)
"""


def test_a_model_on_the_hub_is_known_by_its_config_and_the_sizes_of_its_files(
    dense_dir: Path, tmp_path: Path
) -> None:
    # The hub has no weights to give: only their size is asked for.
    files = {"config.json": (dense_dir / "config.json").read_bytes(), "model.safetensors": b"x" * 1000}
    with hub({"owner/tiny": files}) as address:
        command = [sys.executable, "-c", SCRIPT, "owner/tiny"]
        env = environment(address, tmp_path) | {"PYTHONPATH": str(ROOT)}
        # In a folder of its own, because the project may have a model, which would be the one that is known.
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["31520", "1000"]
        assert not list(tmp_path.rglob("*.safetensors"))


def test_a_hub_that_cannot_be_reached_is_asked_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, "owner/tiny"]
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        asked: list[bytes] = []

        def refuse() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                asked.append(connection.recv(1000).split(b"\r\n")[0])
                connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        env = environment(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path) | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        server.shutdown(socket.SHUT_RDWR)
    assert (
        "params.yaml: model.id: owner/tiny: no folder here has this name, and the hub cannot be reached"
        in done.stderr
    )
    assert b"GET /api/models/owner/tiny/revision/main?blobs=true HTTP/1.1" in asked
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("name", ["plan", "sources", "benchmarks", "kinds", "vocabulary", "report", "page"])
def test_what_computes_nothing_begins_without_any_large_library(name: str) -> None:
    large = "{'torch', 'transformers', 'lm_eval', 'datasets', 'pandas'}"
    code = f"import stages.{name}, sys; print({large} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_package_that_is_not_here_is_planned_without_them(project: Path) -> None:
    code = (
        "import sys; from stages import plan\n"
        "try: plan.main([])\n"
        "finally: print({'torch', 'transformers', 'lm_eval', 'datasets', 'pandas'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=True)
    assert "`dvc repro model` fetches it" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_the_schedule_is_shown_even_where_the_model_cannot_be_read(project: Path, dense_dir: Path) -> None:
    made_of(project, dense_dir)
    (project / "data/model/config.json").write_text("{", encoding="utf-8")
    shown = CliRunner().invoke(plan.main, []).stdout
    assert "dense -> r1: 3.4% of the decoder's parameters removed" in shown


def test_a_package_that_is_not_here_says_how_to_get_it(project: Path) -> None:
    assert "`dvc repro model` fetches it" in invoke(plan.main)


def test_what_data_model_was_made_of_decides_whether_it_is_priced(project: Path, dense_dir: Path) -> None:
    made_of(project, dense_dir, member="another.gguf")
    assert "`dvc repro model` fetches it" in invoke(plan.main)


def test_what_the_card_says_of_a_model_does_not(project: Path, dense_dir: Path) -> None:
    made_of(project, dense_dir, licence="mit")
    assert "31.5 k parameters (data/model)" in invoke(plan.main)


def test_the_plan_says_how_long_how_much_and_on_what_it_rests(project: Path, dense_dir: Path) -> None:
    made_of(project, dense_dir)
    lines = invoke(plan.main).splitlines()
    together = next(line for line in lines if line.startswith("  together"))
    # Eleven starts of a stage alone take 88 seconds; so small a model adds next to nothing.
    assert 88 <= int(together.split()[1]) < 100
    assert any("measured just now in float32 matrix products on cpu" in line for line in lines)
    assert any(line.startswith("Memory: ") for line in lines)
    # A tenth of 48 channels is less than a step of 32.
    assert [line for line in lines if line.startswith("Warning")] == [
        "Warning: prune.width_multiple: 32: whole steps take 19.8% of the decoder's parameters, where 10.0% "
        "were asked for; a smaller multiple comes nearer."
    ]


def test_a_model_that_cannot_be_read_is_one_message(project: Path, dense_dir: Path) -> None:
    made_of(project, dense_dir)
    (project / "data/model/config.json").write_text("{", encoding="utf-8")
    assert "data/model: cannot be loaded" in invoke(plan.main, status=1)


def test_half_precision_on_a_cpu_is_warned_of(project: Path, dense_dir: Path) -> None:
    made_of(project, dense_dir)
    params = project / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("dtype: float32", "dtype: bfloat16"))
    (warning,) = [line for line in invoke(plan.main).splitlines() if "compute.dtype" in line]
    assert "compute.dtype: bfloat16 on a CPU" in warning
