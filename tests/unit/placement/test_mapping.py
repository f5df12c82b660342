"""Physical experts, replicas, and what records call them."""

import numpy as np

from moesim.engine.counts import Loads
from moesim.metrics.balance import balance, rows_of_gpus
from moesim.placement.mapping import Placement


def test_each_gpu_has_its_experts_in_ascending_order():
    placement = Placement.of(np.array([[4, 0, 2, 3, 1], [1, 4, 0, 3, 2]]), 2)
    assert placement.logical.tolist() == [[0, 2, 4, 1, 3], [0, 1, 4, 2, 3]]
    assert placement.gpu_of_expert.tolist() == [0, 0, 0, 1, 1]
    assert not placement.has_replicas


def test_replicas_share_each_senders_rows():
    """Expert 0 has three replicas: 7 rows of GPU 1 are 2, 2, 2 and one more for replica 1."""
    placement = Placement.of(np.array([[0, 1, 0, 0]]), 2)
    choices = np.array([[[[4, 5], [7, 1]]]])
    assert placement.has_replicas
    assert placement.spread(choices).tolist() == [[[[2, 5, 1, 1], [2, 1, 3, 2]]]]
    assert placement.number.tolist() == [[0, 0, 1, 2]]
    assert placement.of_logical(np.array([[[10, 20]]])).tolist() == [[[10, 20, 10, 10]]]


def test_records_name_logical_experts():
    placement = Placement.of(np.array([[7, 2, 2, 5, 2, 5, 5, 5]]), 2)
    assert placement.names(0, 0) == ["2", "2#2", "5", "7"]
    assert placement.names(0, 1) == ["2", "5", "5#2", "5#3"]


def test_what_is_where_it_was_is_not_copied():
    choices = np.arange(24).reshape(2, 2, 2, 3)
    placement = Placement.of(np.tile(np.arange(3), (2, 1)), 2)
    assert placement.spread(choices) is choices


def test_balance_by_hand():
    """Largest shares 3/4 and 1/2; a pass without rows has none."""
    rows = rows_of_gpus(np.array([[[1, 2, 1]], [[1, 1, 2]], [[0, 0, 0]]]), np.array([0, 0, 1]), 2)
    assert rows.tolist() == [[[3, 1]], [[2, 2]], [[0, 0]]]
    assert balance(Loads.of(rows)) == {
        "max_load": 0.75, "average_max_load": 0.625, "balancedness": 4 / 5,
    }  # fmt: skip
    assert set(balance(Loads.of(rows[2:])).values()) == {None}
