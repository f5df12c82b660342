"""Measured against simulated: milliseconds a token, hits and misses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from moesim.calibrate.closed_loop.clock import PARTS
from moesim.calibrate.closed_loop.recording import Recording
from moesim.calibrate.closed_loop.replay import CHARGES, Replay

KEYS = ("batch", "slots")
MS = 1e6


def comparison(recordings: Sequence[Recording], replays: Sequence[Replay]) -> pd.DataFrame:
    """A row a setting. ``error_percent`` is simulated over measured ms a token, less one;
    ``noise_percent`` how far two halves of the rounds are apart; ``hits`` and ``misses`` each
    measured and simulated, and ``decisions_equal`` whether they agree in every step and layer.
    """
    rows = [_row(*both) for both in zip(recordings, replays, strict=True)]
    return pd.DataFrame(rows).sort_values(list(KEYS), ignore_index=True)


def _row(recording: Recording, replay: Replay) -> dict[str, object]:
    setting, tokens = recording.setting, _tokens(recording)
    measured, simulated = recording.typical_ns().sum() / MS / tokens, replay.duration_ns / MS
    equal = (recording.hits == replay.hits).all() and (
        recording.activations == replay.activations
    ).all()
    return {
        "batch": setting.batch,
        "slots": setting.slots,
        "slots_percent": setting.percent,
        "measured_ms": measured,
        "simulated_ms": simulated / tokens,
        "wall_ms": np.median(recording.wall_ns, axis=0).sum() / MS / tokens,
        "error_percent": 100 * (simulated / tokens / measured - 1),
        "noise_percent": 100 * recording.noise,
        "measured_hits": int(recording.hits.sum()),
        "simulated_hits": int(replay.hits.sum()),
        "measured_misses": int((recording.activations - recording.hits).sum()),
        "simulated_misses": int((replay.activations - replay.hits).sum()),
        "decisions_equal": bool(equal),
    }


def parts(recordings: Sequence[Recording], replays: Sequence[Replay]) -> pd.DataFrame:
    """A row for each setting and part of a step: ms a token measured and simulated."""
    rows = []
    for recording, replay in zip(recordings, replays, strict=True):
        tokens = _tokens(recording)
        found = dict(zip(PARTS, recording.typical_ns(), strict=True))
        found["attention, head"] = found["attention"] + found["head"]
        rows += [
            {
                "batch": recording.setting.batch,
                "slots": recording.setting.slots,
                "part": part,
                "measured_ms": found[part] / MS / tokens,
                "simulated_ms": replay.parts_ns[part] / MS / tokens,
            }
            for part in CHARGES
        ]
    return pd.DataFrame(rows).sort_values(list(KEYS), kind="stable", ignore_index=True)


def by_layer(recordings: Sequence[Recording], replays: Sequence[Replay]) -> pd.DataFrame:
    """A row for each setting and layer, all parts but the head: ms a token of both."""
    rows = []
    for recording, replay in zip(recordings, replays, strict=True):
        tokens, measured = _tokens(recording), recording.layers_ns()
        rows += [
            {
                "batch": recording.setting.batch,
                "slots": recording.setting.slots,
                "layer": layer,
                "measured_ms": measured[layer] / MS / tokens,
                "simulated_ms": simulated / MS / tokens,
            }
            for layer, simulated in enumerate(replay.layers_ns)
        ]
    return pd.DataFrame(rows).sort_values([*KEYS, "layer"], ignore_index=True)


def _tokens(recording: Recording) -> int:
    steps, batch, *_ = recording.ids.shape
    return int(steps * batch)
