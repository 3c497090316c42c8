"""Where the project is, for tests that read its own files."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
PARAMS = ROOT / "params.yaml"
