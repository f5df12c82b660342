"""What every collector of measurements keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from moesim.calibrate.collect.ops.base import Collector
from moesim.calibrate.collect.point import FIRST, THIRD, Point
from moesim.hardware.measurements.validate import LINE, valid

if TYPE_CHECKING:
    from moesim.calibrate.collect.device import Device
    from moesim.calibrate.collect.plan import Plan


def plans_valid_rows(collector: Collector, plan: Plan) -> list[Point]:
    """Rows of its ``ops`` that the measurement table takes, the same each time, with priorities
    that there are. Returns the points; none where ``plan`` has no such device.
    """
    points, name = list(collector.points(plan)), type(collector).__name__
    again = [point.key for point in collector.points(plan)]
    assert again == [point.key for point in points], f"{name} plans differently each time"
    for point in points:
        assert point.columns["op"] in collector.ops, f"{name}: plans '{point.columns['op']}'"
        assert FIRST <= point.priority <= THIRD, f"{name}: priority {point.priority}"
        assert point.operand_bytes >= 0, f"{name}: operands of {point.operand_bytes} bytes"
    if points:
        table = pd.DataFrame([dict(point.columns) for point in points])
        table[LINE], table["latency_ns"] = np.arange(len(table)), 1e6
        found = valid(table)[1]
        assert not found, f"{name}: rows that cannot be: {found[:3]}"
    return points


def measures(point: Point, device: Device, count: int = 3) -> None:
    """``point`` can be prepared on ``device`` and gives ``count`` times above zero."""
    trial = point.prepare(device)
    trial.warm_up()
    times = trial.samples(count)
    assert len(times) == count, f"{point.key}: {len(times)} times of {count}"
    assert all(time > 0 for time in times), f"{point.key}: {times}"
