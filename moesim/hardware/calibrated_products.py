"""A profile's fit of dense products, as the formula takes it."""

from __future__ import annotations

from moesim.hardware.calibrated import ProductFit
from moesim.hardware.calibrated_experts import SAME_UNITS
from moesim.hardware.product_kernel import ProductNumbers
from moesim.hardware.profile import HardwareProfile


def product_fit_for(profile: HardwareProfile, dtype: str) -> ProductFit | None:
    """The first fit of a format; bf16 stands for fp16 and the other way round."""
    fits = profile.calibrated.products if profile.calibrated else ()
    names = (dtype, SAME_UNITS.get(dtype))
    return next((fit for name in names for fit in fits if fit.dtype == name), None)


def product_numbers(fit: ProductFit, profile: HardwareProfile) -> ProductNumbers:
    """A fit's numbers: fractions of the datasheet's values."""
    assert fit.dtype is not None, "a product has a format"
    memory = profile.datasheet.memory_bandwidth.value
    return ProductNumbers(
        start_ns=fit.start.value,
        bandwidth=fit.bandwidth.value / memory,
        compute=fit.compute.value / profile.peak(fit.dtype),
        overlap=fit.overlap.value,
        activation_bandwidth=fit.activation_bandwidth.value / memory,
    )
