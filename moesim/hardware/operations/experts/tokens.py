"""How many tokens make the rows of a launch."""

from __future__ import annotations

import numpy as np

from moesim.hardware.prices.arrays import Ints
from moesim.model.spec import MoeSpec


def tokens_of(moe: MoeSpec, rows: Ints) -> Ints:
    """The tokens whose choices make ``rows``, rounded up: a kernel's tile follows them, not the
    choices of each, of which there are ``mean_choices`` where they differ.
    """
    if moe.mean_choices is None:
        return -(-rows // moe.top_k)
    return np.ceil(rows / moe.mean_choices).astype(np.int64)
