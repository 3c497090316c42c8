"""Symmetric matrices by their lower triangle, and their equations, which processes solve together."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from secateurs.devices.parallel import from_owners, own_rows, processes

# A lower triangle is worked through in about this many strips of columns, none narrower than this.
STRIPS, NARROWEST = 16, 256
# Columns of a block of a factorisation that is shared. A matrix of no more than FEWEST blocks is factorised
# by every process for itself: less would be gained than exchanged.
WIDTH, FEWEST = 1536, 6


def strips(size: int) -> Iterator[tuple[int, int]]:
    """The columns, from and to, of each strip of a [size, size] matrix; a strip's rows begin at its start.

    Together they are the lower triangle and blocks on its diagonal.
    """
    width = max(NARROWEST, math.ceil(size / STRIPS))
    for start in range(0, size, width):
        yield start, min(start + width, size)


def solve(matrix: Tensor, right: Tensor, width: int = WIDTH) -> Tensor:
    """X = right matrix^-1 = (right L^-T) L^-1 with the Cholesky factor L of the matrix.

    matrix: [k, k], positive definite; its lower triangle alone is read. right: [rows, k]. In a process group,
    where all have the same matrix and each its own rows of `right`, they make L together. width: columns of
    the blocks that they make it by. Raises ValueError where the matrix is not positive definite, and where
    it or `right` is not finite.
    """
    shared = processes() > 1 and len(matrix) > FEWEST * width
    factor, forward, failed = _shared(matrix, right, width) if shared else _alone(matrix, right)
    solution: Tensor = torch.linalg.solve_triangular(factor, forward, upper=False, left=False)
    if bool(failed | ~torch.isfinite(solution).all()):
        raise ValueError(f"a matrix of {len(matrix)} rows is not positive definite, or something not finite")
    return solution


def _alone(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """L, right L^-T, and whether there is no L: a scalar that no one has waited for."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    # On an H200 4 to 7% faster than cholesky_solve, which has the right-hand sides as columns.
    return factor, torch.linalg.solve_triangular(factor.mT, right, upper=True, left=False), failed > 0


def _shared(matrix: Tensor, right: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """What _alone gives, by blocks of columns from left to right, `right` standing below the matrix.

    J: the rows of a block's own columns; <: all columns before it; i: any row below J, or one of `right`.

        L_JJ = Cholesky factor of M_JJ - L_J< L_J<^T    each process makes its own rows of the difference
        L_iJ = (M_iJ - L_i< L_J<^T) L_JJ^-T             each process makes its own rows, of `right` to keep
    """
    factor, forward, size, failures = matrix.clone(), right.clone(), len(matrix), []
    for start in range(0, size, width):
        end = min(start + width, size)
        columns, before = factor[:, start:end], factor[:, :start]
        corner = own_rows(columns[start:end]) - own_rows(before[start:end]) @ before[start:end].T
        columns[start:end], failed = torch.linalg.cholesky_ex(from_owners(corner, end - start))
        failures.append(failed > 0)
        below = own_rows(columns[end:]) - own_rows(before[end:]) @ before[start:end].T
        rows = torch.cat([below, forward[:, start:end] - forward[:, :start] @ before[start:end].T])
        rows = torch.linalg.solve_triangular(columns[start:end].mT, rows, upper=True, left=False)
        if end < size:
            columns[end:] = from_owners(rows[: len(below)], size - end)
        forward[:, start:end] = rows[len(below) :]
    return factor, forward, torch.stack(failures).any()
