"""The clock of shared links, of passes that begin as a scheduler's host says."""

from __future__ import annotations

from moesim.engine.replay.clock.paced import PACE, begin_paced
from moesim.engine.replay.clock.records import FILLED, FIXED, GPUS, PASSES
from moesim.engine.replay.clock.shared import SHARED, sharing_with
from moesim.engine.replay.clock.steps import compiled_clock
from moesim.runtime.compiled import types

_CLOCK = FIXED, PASSES, SHARED, GPUS, FILLED, PACE, types.int64, types.int64
play_sharing_paced = compiled_clock(types.void(*_CLOCK))(sharing_with(begin_paced))
"""As ``play_paced``."""
