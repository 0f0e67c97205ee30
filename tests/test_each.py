"""Pieces of work on several threads."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from undertow._workers import each


def blas_threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def test_values_come_in_the_order_of_the_items_from_threads_of_their_own():
    meet, names = threading.Barrier(2, timeout=30), set()

    def square(i):
        names.add(threading.current_thread().name)
        if i < 2:
            meet.wait()  # two pieces at once, or never
        return i * i

    assert each(square, range(7), 2) == [i * i for i in range(7)]
    assert len(names) == 2
    assert threading.main_thread().name not in names


def test_work_within_work_stays_in_its_thread():
    def outer(i):
        return {threading.get_ident(), *each(lambda _: threading.get_ident(), range(4), 2)}

    assert [len(ids) for ids in each(outer, range(3), 2)] == [1, 1, 1]


def test_pieces_have_one_blas_thread_which_ends_with_them():
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        inside = each(lambda _: (np.ones((2, 2)) @ np.ones((2, 2)), blas_threads())[1], range(2), 2)
        assert set(inside[0]) == {1}
        assert blas_threads() == before


def test_an_error_of_a_piece_is_raised():
    with pytest.raises(ZeroDivisionError):
        each(lambda i: 1 // i, [1, 0, 1], 2)
