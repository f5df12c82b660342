"""A profile's fits of copies, as curves over bytes."""

from __future__ import annotations

from functools import partial

from moesim.hardware.described.datasheet import Datasheet, Direction
from moesim.hardware.prices.calibrated import Calibrated, CopyFit
from moesim.hardware.prices.transfer_curve import Curve, TransferNumbers, transfer_terms


def copy_fit_for(
    calibrated: Calibrated | None, op: str, pinned: bool = True, gpus: float = 1
) -> CopyFit | None:
    """The fit of ``op`` (``copy_h2d``, ...) that saw ``gpus`` at once, else that of the fewest.

    Of copies between GPUs there is one kind, whatever ``pinned`` says.
    """

    def distance(fit: CopyFit) -> tuple[bool, int]:
        least, most = fit.measured.get("gpus", (1, 1))
        return not least <= gpus <= most, least

    fits = [
        fit
        for fit in (calibrated.copies if calibrated else ())
        if fit.op == op and (fit.pinned == pinned or op == "copy_p2p")
    ]
    return min(fits, key=distance, default=None)


def copy_numbers(fit: CopyFit) -> TransferNumbers:
    """A fit's numbers as the formula takes them."""
    half = float(fit.half.value)
    return TransferNumbers(fit.start.value, fit.bandwidth.value, fit.fill.value, half)


def copy_curve(fit: CopyFit, measured: bool = True) -> Curve:
    """The curve of a fit; ``measured``: with the sizes measured."""
    ratios = fit.ratios[0] if fit.ratios and measured else None
    terms = partial(transfer_terms, copy_numbers(fit))
    return Curve(fit, terms, fit.bandwidth.value, ratios, fit.measured["bytes"])


def own_rate(
    calibrated: Calibrated | None, datasheet: Datasheet, direction: Direction, pinned: bool
) -> int:
    """Bytes a second of a GPU's own link: no copy of one GPU alone is faster.

    One more than the curve's fastest, so that rounding leaves no copy below its bytes' time.
    """
    if (fit := copy_fit_for(calibrated, f"copy_{direction}", pinned)) is not None:
        return int(copy_curve(fit).rate) + 1
    return datasheet.copy_of(direction, pinned).bytes_per_second
