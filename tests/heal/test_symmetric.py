"""Lower triangles, and solutions against numpy's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateurs.heal.symmetric import solve, strips

SIZES = (33, 130, 700)
# Rows of each right-hand side.
RIGHT = (2, 5, 40)


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
