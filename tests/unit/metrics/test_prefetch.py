"""What prefetches are worth: the share of the waits that is gone."""

from __future__ import annotations

import pytest

from moesim.experiment.running.run import run

WAITS = ("stall_ms", "storage_wait_ms", "cpu_wait_ms")
MACHINE = {"gpu": "rtx-4060-8gb", "storage": "nvme-pcie4"}


@pytest.mark.parametrize("miss", ["load", "cheapest", "split", "cpu"])
def test_hidden_are_waits_for_copies_storage_and_the_cpu(miss: str) -> None:
    """Where the CPU computes misses hardly anything waits for copies without prefetches, and they
    take its place: of the copies alone they would hide minus some thousand percent.
    """

    def played(prefetch: str) -> dict[str, float]:
        experts = {
            "capacity": "3 slots/layer", "initial": "most_used", "miss": miss,
            "prefetch": prefetch, "host": {"capacity": "50 %"},
        }  # fmt: skip
        asked = {"model": "small-moe", "hardware": MACHINE, "trace": "small-moe"}
        return run({**asked, "experts": experts, "records": "summary"}).summary

    without, told = played("none"), played("next_layer")
    before, now = (sum(one[key] for key in WAITS) for one in (without, told))
    assert without["stall_hidden_share"] is None
    assert before > 0
    assert told["stall_without_prefetch_ms"] == pytest.approx(before)
    assert told["stall_hidden_share"] == pytest.approx((before - now) / before)
    assert (told["cpu_wait_ms"] > 0) == (miss != "load")
