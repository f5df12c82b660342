"""Writing a calibrated part as YAML that is pleasant to read."""

from __future__ import annotations

import json
from pathlib import Path

from moesim.calibrate.amounts import amount
from moesim.calibrate.fit import Fits
from moesim.config.errors import InputError
from moesim.hardware.calibrated import Calibrated, Estimate, ExpertFit, Fit, ProductFit, Ratios
from moesim.hardware.expert_kernel import ExpertNumbers
from moesim.hardware.product_kernel import ProductNumbers

FITTED = "fit-"
"""What the keys of a fit's sources start with."""


def profile_text(base: str, title: str, fits: Fits) -> str:
    """A profile's file: its base, sources, and the calibrated part."""
    lines = [f"title: {json.dumps(title)}", "sources:"]
    lines += [f"  {key}: {json.dumps(text)}" for key, text in fits.sources.items()]
    lines += [f"base: {json.dumps(base)}", *calibrated_lines(fits.calibrated)]
    return "\n".join(lines) + "\n"


def write_profile(path: Path, text: str) -> None:
    """Write a profile's file; InputError for another suffix."""
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"--out '{path}': a profile is a .yaml file")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def calibrated_lines(part: Calibrated) -> list[str]:
    """The lines of the calibrated part."""
    lines = ["calibrated:"]
    if part.experts:
        lines.append("  experts:")
    for fit in part.experts:
        lines += _experts(fit)
    if part.products:
        lines.append("  products:")
    for product in part.products:
        lines += _products(product)
    return lines


def _experts(fit: ExpertFit) -> list[str]:
    lines = _head(fit)
    lines.append(f"      family: {fit.family}")
    ranges = (f"{name}: {list(ends)}" for name, ends in fit.measured)
    lines.append(f"      measured: {{{', '.join(ranges)}}}")
    for name in ("start", *ExpertNumbers.names()[1:]):
        lines.append(f"      {name}: {_estimate(name, getattr(fit, name))}")
    if fit.ratios:
        lines.append("      ratios:")
    for ratios in fit.ratios:
        lines += _ratios(ratios)
    return lines


def _products(fit: ProductFit) -> list[str]:
    lines = _head(fit)
    ranges = (f"{name}: {list(ends)}" for name, ends in fit.measured)
    lines.append(f"      measured: {{{', '.join(ranges)}}}")
    for name in ("start", *ProductNumbers.names()[1:]):
        lines.append(f"      {name}: {_estimate(name, getattr(fit, name))}")
    return lines


def _head(fit: Fit) -> list[str]:
    names = ("dtype", "kernel", "device", "framework", "version")
    texts = [f"{n}: {json.dumps(v)}" for n in names if (v := getattr(fit, n)) is not None]
    texts += [f"source: {fit.source}", f"points: {fit.points}", f"shapes: {fit.shapes}"]
    if (error := fit.held_out) is not None:
        texts.append(
            f"held_out: {{points: {error.points}, shapes: {error.shapes},"
            f" median_percent: {error.median_percent}, p90_percent: {error.p90_percent},"
            f" largest_percent: {error.largest_percent}}}"
        )
    return [f"    {'- ' if index == 0 else '  '}{text}" for index, text in enumerate(texts)]


def _ratios(ratios: Ratios) -> list[str]:
    shape = (
        f"hidden: {ratios.hidden}, inter: {ratios.inter}, experts: {ratios.experts},"
        f" top_k: {ratios.top_k}, gated: {json.dumps(ratios.gated)}"
    )
    return [
        f"        - {{{shape},",
        f"           tokens: {list(ratios.tokens)},",
        f"           ratio: {list(ratios.ratio)}}}",
    ]


def _estimate(name: str, estimate: Estimate[float]) -> str:
    low, high = estimate.interval
    value = amount(name, estimate.value)
    return f"{{value: {value}, interval: [{amount(name, low)}, {amount(name, high)}]}}"


def with_calibration(text: str, fits: Fits) -> str:
    """A profile file's text with these fits in place of the calibrated part that it may have."""
    lines = text.split("\ncalibrated:\n", maxsplit=1)[0].rstrip().splitlines()
    lines = [line for line in lines if not line.startswith(f"  {FITTED}")]
    first = lines.index("sources:") + 1
    after = next(
        (at for at in range(first, len(lines)) if not lines[at].startswith("  ")), len(lines)
    )
    sources = [f"  {key}: {json.dumps(text)}" for key, text in fits.sources.items()]
    kept = [*lines[:after], *sources, *lines[after:]]
    return "\n".join([*kept, *calibrated_lines(fits.calibrated)]) + "\n"
