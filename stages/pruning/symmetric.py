"""Symmetric matrices by their lower triangle, and its Cholesky factor, which processes of a group share."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from stages.pruning.parallel import from_owners, own_rows, processes

# A lower triangle is worked through in about this many strips of columns, none narrower than this.
STRIPS, NARROWEST = 16, 256
# A matrix of so many rows is factorised by every process for itself: less would be gained than exchanged.
WHOLE = 8192


def strips(size: int) -> Iterator[tuple[int, int]]:
    """The columns, from and to, of each strip of a [size, size] matrix; a strip's rows begin at its start.

    Together they are the lower triangle and blocks on its diagonal.
    """
    width = max(NARROWEST, math.ceil(size / STRIPS))
    for start in range(0, size, width):
        yield start, min(start + width, size)


def cholesky(matrix: Tensor, whole: int = WHOLE) -> Tensor:
    """L with L L^T = matrix. In a process group, where all have the same matrix, it is halved:

        [ A  B^T ]   [ La  0  ] [ La^T  X^T  ]      La La^T = A,  X = B La^-T,
        [ B   C  ] = [ X   Lc ] [ 0     Lc^T ]      Lc Lc^T = C - X X^T

    Each process makes its own rows of X and of X X^T. A and C are halved again, down to `whole` rows.

    matrix: [k, k], positive definite; its lower triangle alone is read. Returns the same shape, dtype and
    device; what stands above the diagonal means nothing. Raises ValueError where the matrix is not positive
    definite or not finite.
    """
    if processes() == 1 or len(matrix) <= whole:
        return _factor(matrix)
    factor = matrix.clone()
    _factorise(factor, whole)
    return factor


def _factorise(block: Tensor, whole: int) -> None:
    """Put its Cholesky factor in the place of a matrix, with the names that `cholesky` gives its parts."""
    if len(block) <= whole:
        block.copy_(_factor(block))
        return
    half = len(block) // 2
    a, b, c = block[:half, :half], block[half:, :half], block[half:, half:]
    _factorise(a, whole)
    x = torch.linalg.solve_triangular(a.mT, own_rows(b), upper=True, left=False)
    b.copy_(from_owners(x, len(b)))
    for start, end in strips(len(c)):
        product = own_rows(b[start:]) @ b[start:end].T
        c[start:, start:end].sub_(from_owners(product, len(c) - start))
    _factorise(c, whole)


def _factor(matrix: Tensor) -> Tensor:
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise ValueError(f"a matrix of {len(matrix)} rows is not positive definite")
    return factor
