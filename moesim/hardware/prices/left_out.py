"""Errors of prices on what a fit had not seen."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moesim.config.params import Params

Count = Annotated[int, Field(ge=1, le=1 << 50)]
Error = Annotated[float, Field(ge=0)]


class HeldOut(Params):
    """Errors on shapes that the fit had not seen: fitted on one half of the shapes, both ways."""

    points: Count
    shapes: Count
    median_percent: Error
    p90_percent: Error
    largest_percent: Error
