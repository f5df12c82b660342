"""Print what a fitted trace says of unevenness, in the few numbers that docs/gating_today.md needs.

``moesim trace fit traces/quickstart.parquet -o FITTED.yaml``, then
``python scripts/gating_today_parameters.py FITTED.yaml``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import curve_fit

from moesim.trace.synthesis import load_parameters
from moesim.trace.synthesis.rows import Floats, matrix

STRONG = 1.0
"""Logarithm of a factor from which a pair of experts counts as coupled."""


def main() -> None:
    """One line a parameter."""
    part: Any = load_parameters(Path(sys.argv[1])).parts[0]
    print(f"concentration {concentration(matrix(part.popularity.weights_by_layer)):.3g}")
    effects = [matrix(rows) for rows in part.domain_effect.log_factors.values()]
    print(f"domain spread {np.std(effects):.3g}")
    print(f"request spread {np.sqrt(np.mean(np.square(part.request_spread))):.3g}")
    recency = part.stickiness.recency
    print("recency strength {:.3g}, decay {:.3g}".format(*power_law(recency)))
    for name in ("between_layers", "within_token"):
        pairs = np.stack([matrix(rows) for rows in getattr(part, name).log_factors])
        print(f"{name} {coupled(pairs)}")


def concentration(weights: Floats) -> float:
    """Of the symmetric Dirichlet distribution with this mean sum of squares, [layers, experts]."""
    shares = weights / weights.sum(axis=1, keepdims=True)
    squares = float((shares**2).sum(axis=1).mean())
    return float((1 - squares) / (shares.shape[1] * squares - 1))


def power_law(recency: Any) -> Floats:
    """Strength and decay of the mean over layers, least squares of logarithms."""
    means = matrix(recency.log_factors).mean(axis=0)
    ages = np.asarray(recency.ages, dtype=float)

    def law(age: Floats, strength: float, decay: float) -> Floats:
        return np.asarray(np.log1p(strength * age**-decay))

    return np.asarray(curve_fit(law, ages, means, p0=(5.0, 0.5))[0])


def coupled(pairs: Floats) -> str:
    """How many pairs of experts are coupled, and how strongly beside the mean pair."""
    strong = pairs > STRONG
    factor = np.exp(pairs[strong].mean() - pairs.mean())
    return f"coupled {100 * strong.mean():.2g} %, factor {factor:.3g}"


if __name__ == "__main__":
    main()
