import numpy as np

from components.retrieval_evaluator.row_lists import RowLists


def test_lists_of_rows_read_as_the_lists_they_were_made_of():
    lists = [[3, 1, 3], [], [0, 2], [1]]
    rows = RowLists(np.array([3, 1, 3, 0, 2, 1]), np.array([3, 0, 2, 1]))
    assert [row.tolist() for row in rows] == lists
    assert rows[-1].tolist() == [1]
    assert [row.tolist() for row in rows[1:3]] == [[], [0, 2]]
    assert [row.tolist() for row in rows.take(np.array([2, 0, 1]))] == [[0, 2], [3, 1, 3], []]
    assert [row.tolist() for row in rows.distinct(4)] == [[1, 3], [], [0, 2], [1]]
    assert rows.owners.tolist() == [0, 0, 0, 2, 2, 3]
    assert [row.tolist() for row in RowLists.empty(2)] == [[], []]


def test_lists_of_rows_are_lengthened_one_by_one():
    rows = RowLists(np.array([3, 1, 0]), np.array([2, 0, 1, 0]))
    longer = rows.append(np.array([7, 8, -1, 9]))
    assert [row.tolist() for row in longer] == [[3, 1, 7], [8], [0], [9]]
    assert [row.tolist() for row in rows] == [[3, 1], [], [0], []]
