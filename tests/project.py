"""Where the project is, for tests that read its own files."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
PARAMS = ROOT / "params.yaml"
# What the model card says of a model that tests make up: the keys of `model` beside where it is.
LABEL = {"name": "tiny", "licence": "none", "base_model": None}
