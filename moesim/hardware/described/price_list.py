"""What a machine costs: the keys of ``cost``."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from moesim.config.params import Params
from moesim.config.units import Dollars, DollarsPerHour, DollarsPerKwh, Hours
from moesim.hardware.described.names import known_part


def priced(name: str, by_name: Mapping[str, float]) -> float | None:
    """The price of the machine or part ``name``, by whichever of its names a list has one; None
    where it has none, or several may be meant.
    """
    known = [known_part(name, by_name)] if by_name else []
    if known == [None]:
        known = [one for one in by_name if known_part(one, [name])]
    return by_name[known[0]] if len(known) == 1 and known[0] else None


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
        found = {"gpu": priced(gpu, self.rents), "card": priced(gpu, self.prices)}
        found["host"] = None if host is None else priced(host, self.prices)
        own = {key: price for key, price in found.items() if getattr(self, key) is None}
        return self.model_copy(update={**own, "rents": {}, "prices": {}})
