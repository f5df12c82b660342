"""The cost of an engine's own software, from its runs with experts offloaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

from moesim.calibrate.software.rows import Rows
from moesim.config.errors import InputError
from moesim.hardware import CostModel, HardwareProfile
from moesim.hardware.described.software import SoftwareProfile
from moesim.model.spec import ModelSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Terms:
    """What a token of batch 1 costs without software.

    ``layers`` with experts; ``activations`` experts that a token needs; ``copies`` an expert; times
    in ns: ``link_ns`` one expert over the link, ``counts_ns`` the counts of a layer to the host,
    ``resident_ns`` a token with all experts on the GPU.
    """

    layers: int
    activations: int
    copies: int
    link_ns: float
    counts_ns: float
    resident_ns: float

    def hardware_ns(self, hits: Floats) -> Floats:
        """A token at these hit ratios without software, [n]."""
        misses = self.activations * (1 - hits)
        return self.resident_ns + self.layers * self.counts_ns + misses * self.link_ns

    def amounts(self, hits: Floats) -> Floats:
        """How often a token pays the price of a layer and of a copy, [n, 2]."""
        copies = self.activations * (1 - hits) * self.copies
        return np.stack([np.full_like(copies, self.layers), copies], axis=1)


@dataclass(frozen=True)
class SoftwareFit:
    """``per_layer_ns`` and ``per_copy_ns`` of host time; ``table`` has the rows, with
    ``predicted_tokens_per_s`` and ``error_percent`` of that speed.
    """

    terms: Terms
    per_layer_ns: float
    per_copy_ns: float
    table: pd.DataFrame


def terms_of(
    model: ModelSpec, hardware: HardwareProfile, software: SoftwareProfile, context: int
) -> Terms:
    """The prices of one token that attends to ``context`` keys, on one GPU."""
    prices, ones = CostModel(hardware, model), np.ones(1, np.int64)
    total, link, counts, activations = 0, 0, 0, 0
    total += int(prices.head_ns(ones)[0]) + int(prices.price("sampling", ones)[0])
    for layer in model.decoder_layers:
        keys = ones * min(context, layer.attention.window or context)
        total += int(prices.attention_ns(layer, ones, keys, keys)[0])
        if (moe := layer.moe) is None:
            total += int(prices.dense_ns(layer, ones)[0])
            continue
        rows = np.ones(moe.top_k, np.int64)
        total += int(prices.gate_ns(layer, ones)[0] + prices.shared_ns(layer, ones)[0])
        total += 2 * int(prices.permute_ns(layer, rows.sum(keepdims=True))[0])
        total += int(prices.experts_ns(layer, rows, np.zeros(1, np.int64))[0])
        pinned, copies = software.pinned, software.copies_per_expert(moe.expert)
        link += moe.top_k * prices.copy_ns(moe.expert.bytes, "h2d", pinned, copies)
        counts += prices.copy_ns(4 * moe.experts, "d2h", pinned)
        activations += moe.top_k
    if not activations:
        raise InputError(f"--model '{model.name}' has no experts in its decoder")
    layers = sum(layer.moe is not None for layer in model.decoder_layers)
    return Terms(layers, activations, copies, link / activations, counts / layers, float(total))


def fit_software(rows: Rows, terms: Terms) -> SoftwareFit:
    """Least squares of the relative errors, both numbers at least 0.

    The resident time is that of the rows where they have one, else moesim's price.
    """
    if rows.resident_ns is not None:
        terms = replace(terms, resident_ns=rows.resident_ns)
    table = rows.table
    chosen, hits = table["fitted"].to_numpy(), table["hits"].to_numpy(np.float64)
    measured = 1e9 / table["tokens_per_s"].to_numpy(np.float64)
    weight = 1 / measured[chosen]
    amounts, hardware = terms.amounts(hits), terms.hardware_ns(hits)
    rest = (measured - hardware)[chosen] * weight
    found, _ = nnls(amounts[chosen] * weight[:, None], rest)
    predicted = 1e9 / (hardware + amounts @ found)
    error = 100 * (predicted / table["tokens_per_s"] - 1)
    table = table.assign(
        predicted_tokens_per_s=predicted, error_percent=error, hardware_ms=hardware / 1e6
    )
    return SoftwareFit(terms, float(found[0]), float(found[1]), table)
