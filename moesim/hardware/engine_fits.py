"""Which kernels of a profile a software stack runs: fits of its own come first.

An operation is priced by the first fit that serves it, so an order is all that a framework needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from moesim.config.errors import InputError, nearest
from moesim.hardware.described.kernel_counts import SmallKernels
from moesim.hardware.described.software import OF_KERNELS, SoftwareProfile
from moesim.hardware.prices.calibrated import Calibrated, ExpertFit, Fit
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.row_tiles import WHOLE

NOBODYS = "NCCL"
"""A kernel of no framework, whichever measured it."""
AnyFit = TypeVar("AnyFit", bound=Fit)


def with_engine(profile: HardwareProfile, software: SoftwareProfile) -> HardwareProfile:
    """``profile`` as ``software`` uses it: how it attends in mixed steps and pads rows, what its
    small kernels take and a core of the CPU computes, the fits of its framework before all others,
    and of expert kernels those of its ``moe_backend`` alone, in the formats that have one; of its
    ``auto_moe_backend`` where its framework's own kernels have such; none of packed experts under
    llama.cpp. Raises InputError where there are expert kernels, and none is of the
    ``moe_backend``.
    """
    software = software.on_card(profile.datasheet)
    own = {name: getattr(software, name) for name in OF_KERNELS}
    own |= {"small_kernels": _small_kernels(profile, software)}
    own |= {"host_kernels": software.host_kernels}
    profile = _without_packed(profile.model_copy(update=own), software)
    if profile.calibrated is None or not (software.framework or software.moe_backend):
        return profile
    kinds = {
        kind: _own_first(getattr(profile.calibrated, kind), software.framework)
        for kind in Calibrated.model_fields
    }
    _check_backend(kinds["experts"], software.moe_backend)
    experts = _of_backend(kinds["experts"], software.auto_moe_backend, software.framework)
    kinds["experts"] = _of_backend(experts, software.moe_backend)
    calibrated = profile.calibrated.model_copy(update=kinds)
    return profile.model_copy(update={"calibrated": calibrated})


def _small_kernels(profile: HardwareProfile, software: SoftwareProfile) -> SmallKernels | None:
    """As many as the software counts; each takes what was measured of the card, or given, before
    the software's cycles.
    """
    told, own = software.small_kernels(profile.datasheet.clock_hz), profile.datasheet.kernel_start
    if told is None or profile.sources.get(own.source, "").startswith("prior"):
        return told
    return told.model_copy(update={"start_ns": own.value})


def _without_packed(profile: HardwareProfile, software: SoftwareProfile) -> HardwareProfile:
    """``profile`` without fits of packed experts where the software multiplies them by kernels of
    its own, which nobody measured.
    """
    if profile.calibrated is None or software.row_tiles == "triton":
        return profile
    whole = tuple(fit for fit in profile.calibrated.experts if fit.dtype in WHOLE)
    calibrated = profile.calibrated.model_copy(update={"experts": whole})
    return profile.model_copy(update={"calibrated": calibrated})


def _own_first(fits: Iterable[AnyFit], framework: str | None) -> tuple[AnyFit, ...]:
    if framework is None:
        return tuple(fits)
    return tuple(sorted(fits, key=lambda fit: not _is_of(fit, framework)))


def _is_of(fit: Fit, framework: str | None) -> bool:
    """Whether it was measured in ``framework``, and is a kernel of its own."""
    return fit.kernel != NOBODYS and (fit.framework or "").lower() == framework


def _check_backend(fits: tuple[ExpertFit, ...], backend: str | None) -> None:
    kernels = {(fit.kernel or "").lower() for fit in fits}
    if backend is None or not kernels or any(backend in kernel for kernel in kernels):
        return
    words = {word for kernel in kernels for word in kernel.split("_") if word}
    what = f"'{backend}' is in no name of a kernel for experts on this card"
    raise InputError(f"software.moe_backend: {what}; of these words, {nearest(backend, words)}")


def _of_backend(
    fits: tuple[ExpertFit, ...], backend: str | None, own: str | None = None
) -> tuple[ExpertFit, ...]:
    """``fits`` but for those without ``backend`` in their names, in formats in which one has it; of
    the framework ``own``, where one is given.
    """

    def runs(fit: ExpertFit) -> bool:
        return backend in (fit.kernel or "").lower() if backend else False

    having = {fit.dtype for fit in fits if runs(fit) and (own is None or _is_of(fit, own))}
    return tuple(fit for fit in fits if runs(fit) or fit.dtype not in having)
