"""What a machine costs: the keys of ``cost``."""

from __future__ import annotations

from pydantic import Field

from moesim.config.params import Params
from moesim.config.units import Dollars, DollarsPerHour, DollarsPerKwh, Hours


class PriceList(Params):
    """Prices that the user knows, of this machine or in lists by name; what is not named costs
    nothing here.
    """

    gpu: DollarsPerHour | None = Field(
        None, description="The rent of a GPU with its share of all else, as in 2.5 $/h."
    )
    card: Dollars | None = Field(
        None, description="What a GPU was bought for, spread over 'life', instead of a rent."
    )
    host: Dollars | None = Field(
        None, description="What all else of a node was bought for, spread over 'life'."
    )
    rents: dict[str, DollarsPerHour] = Field(
        default_factory=dict, description="'gpu' by the GPU's or the machine's name."
    )
    prices: dict[str, Dollars] = Field(
        default_factory=dict, description="'card' and 'host' by the GPU's and the host's name."
    )
    life: Hours | None = Field(None, description="Hours in use, as in '3 years'.")
    electricity: DollarsPerKwh | None = Field(
        None, description="Of the parts whose energy is counted, as in 0.3 $/kWh."
    )

    def of(self, gpu: str, host: str | None) -> PriceList:
        """The prices of a machine with these parts, by the lists where it has none of its own."""
        found = {"gpu": self.rents.get(gpu), "card": self.prices.get(gpu)}
        found["host"] = None if host is None else self.prices.get(host)
        own = {key: price for key, price in found.items() if getattr(self, key) is None}
        return self.model_copy(update={**own, "rents": {}, "prices": {}})
