"""Energy, cost and quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.errors import InputError
from moesim.experiment.loading.quality import read_quality
from moesim.experiment.loading.rules.asked import hardware_of
from moesim.experiment.loading.rules.rule import Conflict, Rule
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware.choice import gpu_and_host
from moesim.hardware.described.price_list import PriceList, priced
from moesim.hardware.energy import RESTING, Energy, powers_of

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def emissions_of_a_life(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """What was emitted to make the machine is spread over its life."""
    del model
    energy = experiment.energy
    if energy is None or (energy.embodied is None) == (not energy.life):
        return None
    if energy.embodied is None:
        what = "is what the CO2 of making the machine is spread over; write energy.embodied too, as"
        return Conflict(("energy.life",), f"{what} in '150 kg', or leave this out")
    what = "is spread over the hours in use; write energy.life too, as in '4 years'"
    return Conflict(("energy.embodied",), what)


def power_of_what_is_counted(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """What a part draws while it rests counts only beside what it draws while it works."""
    del model
    energy, hardware = experiment.energy, hardware_of(experiment)
    if energy is None or hardware is None:
        return None
    powers = powers_of(energy, hardware)
    for part, key in RESTING.items():
        if getattr(energy, key) is not None and getattr(powers, part) is None:
            what = f"counts beside energy.{part}, which is not known of {hardware.name}"
            return Conflict((f"energy.{key}", "hardware"), f"{what}; write energy.{part} too")
    for part in ("dram", "link"):
        if getattr(energy, part) is not None and getattr(powers, part) is None:
            what = f"is not counted on {hardware.name}: {powers.without[part]}; leave it out"
            return Conflict((f"energy.{part}", "hardware"), what)
    return None


def power_of_the_gpu(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Joules, and what they cost, are nobody's where the GPU, most of them, has no number."""
    del model
    if (hardware := hardware_of(experiment)) is None:
        return None
    pays = experiment.cost is not None and _pays_for_joules(experiment, experiment.cost)
    if experiment.energy is None and not pays:
        return None
    if powers_of(experiment.energy or Energy(), hardware).gpu is not None:
        return None
    what = "no power is known of this GPU, and without it joules are next to none; write"
    asked = "energy" if experiment.energy is not None else "cost.electricity"
    one = "energy: {gpu: 60 W}, or one of several in hardware, as gpu: {base: NAME, power: 60 W}"
    return Conflict((asked, "hardware"), f"{what} {one}")


def _pays_for_joules(experiment: Experiment, cost: PriceList) -> bool:
    """A rent beside what is bought has no part in the electricity."""
    rented = cost.prices and priced(gpu_and_host(experiment.hardware)[0], cost.rents) is not None
    return cost.electricity is not None and not rented


def prices_that_say_something(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A list has a price, one of each thing, and what is bought has a life."""
    del model
    if (cost := experiment.cost) is None or prices_by_name(experiment, None):
        return None
    everywhere = cost.life is not None and bool(cost.prices)
    cost = cost.of(*gpu_and_host(experiment.hardware))
    bought = cost.card is not None or cost.host is not None
    if bought and not cost.life:
        what = "what is bought is spread over the hours in use; write cost.life too"
        return Conflict(("cost.card", "cost.host"), f"{what}, as in '3 years'")
    if cost.gpu is not None and cost.card is not None:
        what = "a GPU is rented or bought; write one of gpu and card"
        return Conflict(("cost.card", "cost.gpu"), what)
    if (cost.gpu, cost.card, cost.host, cost.electricity) == (None,) * 4:
        return Conflict(("cost",), "names no price; write one, as in {gpu: 2.5 $/h}")
    if cost.life and not bought and not everywhere:
        what = "is what a price is spread over, and nothing is bought; write cost.card or cost.host"
        return Conflict(("cost.life",), f"{what} too, or leave this out")
    return None


def prices_by_name(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Lists by name have the machine's GPU and, where that is bought, its host."""
    del model
    if (cost := experiment.cost) is None or not (cost.rents or cost.prices):
        return None
    gpu, host = gpu_and_host(experiment.hardware)
    if cost.gpu is not None or cost.card is not None:
        what = "is the price of every GPU, beside lists by name; write one of the two"
        return Conflict(("cost.card" if cost.card is not None else "cost.gpu",), what)
    if priced(gpu, cost.rents) is not None:
        return None
    if priced(gpu, cost.prices) is None:
        what = f"have none of '{gpu}'; write it in cost.rents, or in cost.prices if it is bought"
        return Conflict(("cost", "hardware"), f"lists of prices {what}")
    if host is not None and priced(host, cost.prices) is None and cost.host is None:
        what = f"has no price of '{host}'; write it too, as 0 $ if it is there anyway"
        return Conflict(("cost.prices", "hardware"), what)
    return None


def energy_of_whole_layers(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Which part works while the host runs whole layers is not told apart."""
    del model
    asked = experiment.energy or (experiment.cost and experiment.cost.electricity)
    if not experiment.host_layers or asked is None:
        return None
    what = "what the CPU draws for whole layers is not counted yet; write host_layers: 0"
    return Conflict(("energy", "cost.electricity", "host_layers"), what)


def quality_is_a_table(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """The table of answers' quality can be read."""
    del model
    try:
        read_quality(experiment)
    except InputError as error:
        return Conflict(("quality.table", "quality"), "; ".join(map(str, error.problems)))
    return None


RULES: tuple[Rule, ...] = (
    quality_is_a_table,
    emissions_of_a_life,
    power_of_what_is_counted,
    power_of_the_gpu,
    prices_by_name,
    prices_that_say_something,
    energy_of_whole_layers,
)
