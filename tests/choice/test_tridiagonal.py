"""Systems with many shifts against one elimination each, and which matrices are left to eigenvalues."""

import numpy as np
import pytest

from undertow.choice.gram_path import solve
from undertow.choice.tridiagonal import shifted_solutions


@pytest.mark.parametrize("n_columns", [2, 7, 40])
def test_each_shift_is_solved_as_by_elimination(n_columns):
    rng = np.random.default_rng(n_columns)
    rows = rng.standard_normal((3, 2 * n_columns, n_columns))
    matrix, right = rows.transpose(0, 2, 1) @ rows, rng.standard_normal((3, 2, n_columns))
    shifts = np.array([[0.0, 1e-3, 5.0], [1.0, 2.0, 3.0], [0.1, 0.0, 100.0]])
    found, sure = shifted_solutions(matrix, right, shifts, 1e-12)
    shifted = matrix[:, None] + shifts[..., None, None] * np.eye(n_columns)
    expected = np.linalg.solve(shifted[:, :, None], right[:, None, ..., None])[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert sure.all()


def test_what_may_be_singular_is_never_sure():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    for smallest, sure in ((1e-13, False), (0.0, False), (-1e-8, False), (1e-6, True)):
        matrix = (turn * np.append(np.geomspace(1e-3, 1, 29), smallest)) @ turn.T
        assert shifted_solutions(matrix[None], np.ones((1, 1, 30)), np.ones((1, 2)), 1e-10)[1] == sure
    assert not shifted_solutions(np.zeros((1, 30, 30)), np.ones((1, 1, 30)), np.ones((1, 2)), 1e-10)[1]


@pytest.mark.parametrize("rank", [28, 40])
def test_a_path_of_many_columns_is_that_of_eigenvalues(rank):
    # One target of 30 columns: with fewer rows than columns the directions without rows stay at 0.
    rng = np.random.default_rng(1)
    blocks = rng.standard_normal((rank, 2, 31))
    gram = np.einsum("nia,njb->iajb", blocks, blocks)
    c, ridges = np.array([[1.0, 0.0], [0.8, -0.6]]), np.geomspace(1e-6, 10, 5)
    found = solve(gram, 1, c, ridges, np.finfo(float).eps)
    for k in range(2):
        rows = np.einsum("i,nia->na", c[k], blocks)
        b, target = rows[:, :30], rows[:, 30]
        u, s, vt = np.linalg.svd(b, full_matrices=False)
        for r, ridge in enumerate(ridges):
            expected = vt.T @ (s / (s**2 + ridge * (s**2).sum() / 30) * (u.T @ target))
            np.testing.assert_allclose(found[k, r, 0], expected, rtol=1e-7, atol=1e-10)
