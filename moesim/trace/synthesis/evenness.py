"""What a result says of routing that nobody recorded."""

from __future__ import annotations

import numpy as np

from moesim.trace.routing import RoutingTrace
from moesim.trace.statistics.load import entropy_bits, expert_counts
from moesim.trace.synthesis.generate import RECORDER

NEARLY_EVEN = 2 / 3
"""Of all experts those that are used as if alike, from where on routing is called nearly uniform:
the stand-ins have .75 to .9, recordings of one text .3, gpt-oss-20b's of many .73."""
MOST_ROWS = 4096


def drawn_notes(trace: RoutingTrace) -> list[str]:
    """That the experts of ``trace`` are drawn, and how evenly: 2 to the power of the entropy of
    their shares, the mean of all layers; none of a recording.
    """
    if trace.metadata.recorder != RECORDER:
        return []
    counts = expert_counts(trace, max(1, trace.tokens // MOST_ROWS))
    alike = float(np.exp2(entropy_bits(counts)).mean())
    of = f"as if {alike:.0f} of {trace.experts} were used alike"
    if alike < NEARLY_EVEN * trace.experts:
        return [f"experts are drawn, not recorded: over all requests {of}"]
    what = "experts are drawn, not recorded, nearly uniformly over all requests"
    what += f" ({of}), as of clients that send random text"
    return [f"{what}; text of one kind uses fewer, and caches of experts miss less of it"]
