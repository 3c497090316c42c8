"""Lower triangles and Cholesky factors against numpy's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stages.pruning.symmetric import cholesky, strips
from tests.project import under_torchrun

SIZES = (9, 130, 700)
# Three processes, so that shares differ in size; halves down to 8 rows, so that most of them are shared.
SHARED = """
import os, pathlib, sys, torch
import torch.distributed as dist
from stages.pruning.symmetric import cholesky
dist.init_process_group("gloo")
folder = pathlib.Path(sys.argv[1])
found = [cholesky(matrix, whole=8) for matrix in torch.load(folder / "matrices")]
torch.save(found, folder / os.environ["RANK"])
try:
    cholesky(-torch.eye(9), whole=4)
except ValueError:
    (folder / ("refused " + os.environ["RANK"])).touch()
"""


def positive_definite(size: int) -> Tensor:
    rows = torch.randn(2 * size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    return rows.T @ rows


@given(size=st.integers(1, 6000))
def test_strips_hold_every_column_once(size: int) -> None:
    columns = [column for start, end in strips(size) for column in range(start, end)]
    assert columns == list(range(size))


@pytest.mark.parametrize("size", SIZES)
def test_the_factor_is_numpys_and_the_lower_triangle_alone_is_read(size: int) -> None:
    matrix = positive_definite(size)
    expected = np.linalg.cholesky(matrix.numpy())
    found = cholesky(matrix.tril() + torch.full((size, size), float("nan")).triu(1))
    assert np.allclose(found.tril().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_processes_that_share_a_factorisation_all_have_numpys_factor(tmp_path: Path) -> None:
    matrices = [positive_definite(size) for size in SIZES]
    torch.save(matrices, tmp_path / "matrices")
    script = tmp_path / "share.py"
    script.write_text(SHARED, encoding="utf-8")
    under_torchrun(3, str(script), str(tmp_path))
    for rank in range(3):
        for matrix, found in zip(matrices, torch.load(tmp_path / str(rank)), strict=True):
            expected = np.linalg.cholesky(matrix.numpy())
            assert np.allclose(found.tril().numpy(), expected, rtol=1e-12, atol=1e-12)
        assert (tmp_path / f"refused {rank}").exists(), "a matrix that is not positive definite"
