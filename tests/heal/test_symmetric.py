"""Lower triangles, and solutions against numpy's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateurs.heal.symmetric import solve, strips
from tests.project import under_torchrun

SIZES = (33, 130, 700)
# Rows of each right-hand side: the last process has none of the first one's.
RIGHT = (2, 5, 40)
# Three processes, so that shares differ in size; blocks of 4 columns, so that all are shared.
SHARED = """
import os, pathlib, sys, torch
import torch.distributed as dist
from secateurs.devices.parallel import from_owners, own_rows
from secateurs.heal.symmetric import solve
dist.init_process_group("gloo")
folder, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]
found = []
for matrix, right in torch.load(folder / "equations"):
    own = solve(matrix.tril(), own_rows(right), width=4)
    found.append(from_owners(own, len(right)))
torch.save(found, folder / rank)
for row in (0, 8):
    broken = torch.ones(9).diag()
    broken[row, row] = -1
    try:
        solve(broken, torch.ones(1, 9), width=1)
    except ValueError:
        (folder / f"{rank} refused {row}").touch()
# Without it a process now and then aborts at its end.
dist.destroy_process_group()
"""


def positive_definite(size: int) -> Tensor:
    rows = torch.randn(2 * size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    return rows.T @ rows


@given(size=st.integers(1, 6000))
def test_strips_hold_every_column_once(size: int) -> None:
    columns = [column for start, end in strips(size) for column in range(start, end)]
    assert columns == list(range(size))


def equations() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    rights = [
        torch.randn(rows, size, dtype=torch.float64, generator=generator)
        for rows, size in zip(RIGHT, SIZES, strict=True)
    ]
    return [(positive_definite(size), right) for size, right in zip(SIZES, rights, strict=True)]


@pytest.mark.parametrize(("matrix", "right"), equations(), ids=map(str, SIZES))
def test_the_solution_is_numpys_and_the_lower_triangle_alone_is_read(matrix: Tensor, right: Tensor) -> None:
    expected = np.linalg.solve(matrix.numpy(), right.numpy().T).T
    found = solve(matrix.tril() + torch.full_like(matrix, float("nan")).triu(1), right)
    assert np.allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("row", [0, 32])
def test_a_matrix_that_is_not_positive_definite_is_refused(row: int) -> None:
    matrix, right = equations()[0]
    matrix[row, row] *= -1
    with pytest.raises(ValueError, match="33 rows is not positive definite"):
        solve(matrix, right)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_equations_that_are_not_finite_are_refused(value: float) -> None:
    matrix, right = equations()[0]
    right[1, 4] = value
    with pytest.raises(ValueError, match="not finite"):
        solve(matrix, right)


def test_processes_that_share_a_solution_all_have_numpys(tmp_path: Path) -> None:
    torch.save(equations(), tmp_path / "equations")
    script = tmp_path / "share.py"
    script.write_text(SHARED, encoding="utf-8")
    under_torchrun(3, str(script), str(tmp_path))
    for rank in range(3):
        for (matrix, right), found in zip(equations(), torch.load(tmp_path / str(rank)), strict=True):
            expected = np.linalg.solve(matrix.numpy(), right.numpy().T).T
            assert np.allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)
        for row in (0, 8):
            assert (tmp_path / f"{rank} refused {row}").exists(), "a matrix that is not positive definite"
