"""Compiled code does not outlive its sources."""

from __future__ import annotations

import os

from moesim.config.compiled import forget_stale


def test_compiled_code_goes_when_another_source_changes(tmp_path):
    part = tmp_path / "memory"
    kept = part / "policies" / "__pycache__" / "lru.key.1.nbc"
    kept.parent.mkdir(parents=True)
    constants = part / "policy.py"
    constants.write_text("ROWS = 6\n", encoding="utf-8")
    assert forget_stale(tmp_path, ("memory",))
    kept.touch()
    assert not forget_stale(tmp_path, ("memory",))
    assert kept.exists()
    constants.write_text("ROWS = 8\n", encoding="utf-8")
    os.utime(constants, (1, 1))
    assert forget_stale(tmp_path, ("memory",))
    assert not kept.exists()
