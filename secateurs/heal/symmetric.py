"""Symmetric matrices by their lower triangle, and their equations."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

# A lower triangle is worked through in about this many strips of columns, none narrower than this.
STRIPS, NARROWEST = 16, 256


def strips(size: int) -> Iterator[tuple[int, int]]:
    """The columns, from and to, of each strip of a [size, size] matrix; a strip's rows begin at its start.

    Together they are the lower triangle and blocks on its diagonal.
    """
    width = max(NARROWEST, math.ceil(size / STRIPS))
    for start in range(0, size, width):
        yield start, min(start + width, size)


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """X = right matrix^-1 = (right L^-T) L^-1 with the Cholesky factor L of the matrix.

    matrix: [k, k], positive definite; its lower triangle alone is read. right: [rows, k]. Raises ValueError
    where the matrix is not positive definite, and where it or `right` is not finite.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    # On an H200 4 to 7% faster than cholesky_solve, which has the right-hand sides as columns.
    forward = torch.linalg.solve_triangular(factor.mT, right, upper=True, left=False)
    solution: Tensor = torch.linalg.solve_triangular(factor, forward, upper=False, left=False)
    if bool((failed > 0) | ~torch.isfinite(solution).all()):
        raise ValueError(f"a matrix of {len(matrix)} rows is not positive definite, or something not finite")
    return solution
