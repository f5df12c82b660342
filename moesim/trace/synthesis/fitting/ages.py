"""The bins of a fit: ages in tokens since an expert's last use, and places in a request."""

from __future__ import annotations

import numpy as np

from moesim.trace.synthesis.stickiness import MOST_AGE

AGES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 23, 32, 45, 64, 91, 128)
"""Ages at which a bin begins: single tokens, then about a factor of 1.4."""

STARTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Tokens of a request at which a stage begins."""

BIN_OF_AGE = np.maximum(np.searchsorted(AGES, np.arange(MOST_AGE + 1), side="right") - 1, 0).astype(
    np.int64
)
"""int64[MOST_AGE + 1]."""
