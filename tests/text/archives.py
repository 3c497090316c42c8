"""Tiny archives that a real pip can find in a folder."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

# Whoever asks it for metadata, as pip does to resolve, runs what is planted in it.
BACKEND = """
from pathlib import Path
Path({marker!r}).touch()
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = Path(directory) / "tiny-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n")
    return folder.name
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def make_wheel(directory: Path, files: Mapping[str, bytes], name: str = "tiny") -> None:
    """A wheel `tiny` 1.0, or of another name, with these files."""
    info = {
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{name}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for name, data in {**files, **info}.items():
            archive.writestr(name, data)


def make_sdist(directory: Path, files: Mapping[str, bytes]) -> Path:
    """A source archive `tiny` 1.0 with these files; returns the path that its build backend would write."""
    marker = directory / "backend-was-run"
    info = {
        "PKG-INFO": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "pyproject.toml": PYPROJECT.encode(),
        "backend.py": BACKEND.replace("{marker!r}", repr(str(marker))).encode(),
    }
    content = {f"tiny-1.0/{name}": data for name, data in {**files, **info}.items()}
    (directory / "tiny-1.0.tar.gz").write_bytes(tarball(content))
    return marker


def tarball(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()
