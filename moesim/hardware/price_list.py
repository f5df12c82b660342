"""What a machine costs: the keys of ``cost``."""

from __future__ import annotations

from pydantic import Field

from moesim.config.params import Params
from moesim.config.units import Dollars, DollarsPerHour, DollarsPerKwh, Hours


class PriceList(Params):
    """Prices that the user knows; what is not named costs nothing here."""

    gpu: DollarsPerHour | None = Field(
        None, description="The rent of a GPU with its share of all else, as in 2.5 $/h."
    )
    card: Dollars | None = Field(
        None, description="What a GPU was bought for, spread over 'life', instead of a rent."
    )
    host: Dollars | None = Field(
        None, description="What all else of a node was bought for, spread over 'life'."
    )
    life: Hours | None = Field(None, description="Hours in use, as in '3 years'.")
    electricity: DollarsPerKwh | None = Field(
        None, description="Of the parts whose energy is counted, as in 0.3 $/kWh."
    )
